"""Load Run: what an earlier training made, without training again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from ..gdpo.errors import WorkflowError, shorten
from ..gdpo.export.side_by_side import about_file
from ..gdpo.policies.policy import Policy
from ..gdpo.runs.history import HISTORY_FILE
from ..gdpo.starter import MODEL_DIR
from ..gdpo.trained_run import TrainedRun
from ..gdpo.training.trainer import TrainResult
from .checks.guard import guarded
from .checks.inputs import choice, socket
from .checks.paths import check_tree, list_models, list_runs, name_verdict, resolve_output
from .comfy import host, memory, progress
from .load_model import HUB_ID, MAX_HUB_ID, STARTER

_NONE = "(no run yet)"


class GDPOLoadRun:
    """Gives the policy of a saved run: its newest adapter on its base."""

    DESCRIPTION = (
        "Opens a finished or interrupted run below gdpo/ in the output folder: yesterday's training can be exported, "
        "compared, drawn and trained further without GDPO Train in the graph. Nothing in the run is changed."
    )
    CATEGORY = "GDPO/load"
    SEARCH_ALIASES = ("LoRA", "adapter", "resume", "checkpoint", "saved run")
    RETURN_TYPES = ("GDPO_MODEL", "GDPO_RUN", "STRING")
    RETURN_NAMES = ("tuned", "run", "about")
    OUTPUT_TOOLTIPS = (
        "The trained model. Link it to Export GGUF and Compare, or to GDPO Train to go on from it in a new run.",
        "The run. Link it to Plot Convergence.",
        "The run's steps, rewards and settings, as text.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Return the node's inputs, as ComfyUI asks for them."""
        saved = list_runs(host.folders().output / "gdpo")
        names = [name for name in saved if name_verdict(name, "run") is True]
        return {
            "required": {
                "run": choice(
                    names or [_NONE],
                    "A run below gdpo/ in the output folder, the newest first. Press R in the page after a training.",
                ),
            },
            "optional": {
                "device": choice(
                    ["auto", "cpu", "cuda"],
                    "Where the model works. auto: the card that ComfyUI uses, or a CPU where there is none.",
                ),
                "model": socket(
                    "GDPO_MODEL",
                    "The run's base, from Load Model, which is then not loaded a second time. Without it the base is "
                    "looked for below models/LLM.",
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, run: Any = None, **_: object) -> str:
        """Changes when the run has grown; must not fail."""
        try:
            return str((resolve_output(run, what="run") / HISTORY_FILE).stat().st_mtime_ns)
        except (WorkflowError, OSError) as error:
            return str(error)  # the node itself says it

    @guarded
    def load(self, run: str, device: str, model: Policy | None = None) -> tuple:
        """Open the run; see `gdpo.open_run`."""
        if run == _NONE:
            raise WorkflowError("run: there is no saved run yet; train one first")
        folder = resolve_output(run, what="run")
        check_tree(folder, "run")
        opened = TrainedRun(folder)
        if model is None:
            memory.make_room()
            options = {"allow_download": host.allows_download(), "poll": progress.check_interrupt}
            base = _base(opened)
            policy = opened.load(base, device=memory.choose_device(device), **options)
            memory.make_room(policy.base)
            about_file(replace(policy, adapter=None), progress.check_interrupt)
        else:
            policy = opened.load(model)
        return policy, TrainResult(policy, folder), _about(opened)


def _base(run: TrainedRun) -> Path | str:
    """Return where the run's base is now: a run folder of a stranger may name any path, which is not opened."""
    source = run.source or ""
    known = {STARTER: MODEL_DIR, **list_models()}
    same = [folder for folder in known.values() if str(folder) == source]
    alike = [folder for folder in known.values() if folder.name == PurePath(source).name]
    if same or alike:
        return (same or alike)[0]
    if len(source) <= MAX_HUB_ID and HUB_ID.fullmatch(source) and not os.path.exists(source):
        return source
    raise WorkflowError(
        f"run: its base {shorten(source)} is not below models/LLM; put it there, or link Load Model to `model`"
    )


def _about(run: TrainedRun) -> str:
    """Return the run's steps, rewards before and after, and settings."""
    lines = [f"{run.folder.name}: {run.step} steps"]
    for name, (before, after) in run.rewards.items():
        lines.append(f"{name}: {_shown(before)} -> {_shown(after)}")
    settings = vars(run.settings)
    return "\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items())])


def _shown(mean: float | None) -> str:
    return "none" if mean is None else f"{mean:.3f}"
