"""GDPO Train: makes an adapter that raises all rewards, and leaves the model it was given alone."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from ..gdpo.errors import WorkflowError
from ..gdpo.objective.objective import Objective
from ..gdpo.policies.policy import Policy
from ..gdpo.progress import Progress
from ..gdpo.prompts import Prompt
from ..gdpo.rewards import describe
from ..gdpo.runs.choose import choose_name
from ..gdpo.runs.history import read_history
from ..gdpo.runs.run_file import RUN_FILE, identify
from ..gdpo.settings import TrainSettings
from ..gdpo.to_json import to_json
from ..gdpo.training.fitting import PromptTokens
from ..gdpo.training.trainer import train
from .checks.exports import check_exports
from .checks.guard import guarded
from .checks.inputs import Input, advanced, choice, socket, text, widget
from .checks.memory_notice import before_training
from .checks.paths import check_tree, name_verdict, resolve_output
from .comfy import host, memory, progress
from .comfy.live import describe_run

logger = logging.getLogger(__name__)

CONTINUE, FRESH = "continue", "fresh"
_GRAPH_ID = 64  # characters; pages make 36
# Settings that came after `existing_run`: saved workflows hold the widgets' values by their positions.
_LATER = ("step_size",)
# What people change; the page shows the others when it is asked to. The order of all stays that of saved workflows.
_SHOWN = ("steps", "prompts_per_step", "group_size", "max_new_tokens", "eval_every", "step_size")


class GDPOTrain:
    """Gives the trained policy and its run."""

    DESCRIPTION = (
        "Trains a LoRA adapter on the prompts so that the rewards rise together. The run is kept in the output "
        "folder under gdpo/<run_name>; an interrupted run goes on where it stopped if it is started again with "
        "the same settings, and other settings begin a new run beside it. The model at the input stays as it was."
    )
    CATEGORY = "GDPO/train"
    SEARCH_ALIASES = ("GDPO", "GRPO", "RLHF", "fine-tune", "LoRA", "reinforcement learning")
    RETURN_TYPES = ("GDPO_MODEL", "GDPO_RUN")
    RETURN_NAMES = ("tuned", "run")
    OUTPUT_TOOLTIPS = (
        "The trained model. Link it to Export GGUF and Compare.",
        "The training's record. Link it to Plot Convergence.",
    )
    FUNCTION = "train"
    OUTPUT_NODE = True  # or the page gets no chart where the result comes from the cache

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """The node's inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "model": socket(
                    "GDPO_MODEL", "The model to train (from Load Model); it is not changed."
                ),
                "prompts": socket("GDPO_PROMPTS", "The prompts to train on (from Load Prompts)."),
                "rewards": socket("GDPO_REWARDS", "What to train for (from Combine Rewards)."),
                "run_name": text(
                    "my-run",
                    "Name of the run's folder below gdpo/ in the output folder. A name that is taken by a run with "
                    "other settings gets a number: my-run-2, my-run-3, ...",
                ),
            },
            "optional": {
                "heldout": socket(
                    "GDPO_PROMPTS",
                    "Prompts that are not trained on: every eval_every steps the rewards are measured on them.",
                ),
                **_widgets(later=False),
                "existing_run": choice(
                    [CONTINUE, FRESH],
                    f"{CONTINUE}: a run of this name with the same settings goes on where it stopped, or is re-used if "
                    f"it is finished; only steps may differ, and prompts that it has not used yet. {FRESH}: always begin a new run under the next free name. "
                    "No run is ever overwritten.",
                ),
                **_widgets(later=True),
            },
            "hidden": {"unique_id": "UNIQUE_ID", "workflow": "PROMPT", "page": "EXTRA_PNGINFO"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, run_name: object = None) -> bool | str:
        """Refuses a bad folder name before anything has run."""
        return name_verdict(run_name, "run_name")

    @guarded
    def train(
        self,
        model: Policy,
        prompts: tuple[Prompt, ...],
        rewards: Objective,
        run_name: str,
        heldout: tuple[Prompt, ...] = (),
        unique_id: str | None = None,
        workflow: dict | None = None,
        page: object = None,
        existing_run: str = CONTINUE,
        **settings: Any,
    ) -> dict:
        """Train in the folder that `gdpo.runs.choose` chooses; see `gdpo.training.trainer.train`."""
        chosen, kept = TrainSettings(**settings), _kept(workflow)
        root, name = resolve_output(run_name, what="run_name").parent, run_name.strip()
        training = progress.Training(name, chosen.steps, _graph_id(page))
        with memory.releasing(), progress.bar(unique_id, f"training {name}", training) as bar:
            bar.phase(progress.READING, 0, 0)
            identity = identify(model, prompts, heldout, rewards, chosen)
            steps = 0 if existing_run == FRESH else chosen.steps
            folder, told = _choose(root, name, identity, steps)
            bar.follow(folder)
            memory.make_room(model.base)
            exports = partial(_ask_exports, model, folder, workflow, unique_id, bar)
            asked = _Asked(model, len(heldout), rewards, chosen, unique_id, bar)
            result = train(
                model,
                prompts,
                rewards,
                chosen,
                folder,
                heldout=heldout,
                progress=bar,
                workflow=kept,
                checks=(exports, asked),
            )
        shown = to_json(describe_run(folder, read_history(folder), chosen.steps))
        ui = {"text": [told, *asked.tables], "gdpo_runs": [shown]}
        return {"ui": ui, "result": (result.policy, result)}


def _widgets(*, later: bool) -> dict[str, Input]:
    """The settings as widgets: those of `_LATER`, or all others."""
    options = [one for one in describe(TrainSettings) if (one.name in _LATER) == later]
    return {
        one.name: widget(one) if one.name in _SHOWN else advanced(widget(one)) for one in options
    }


class _Asked:
    """Tells the node, before the first step, what the training needs of memory."""

    def __init__(
        self,
        model: Policy,
        heldout: int,
        rewards: Objective,
        settings: TrainSettings,
        node_id: str | None,
        bar: Progress,
    ) -> None:
        self._about, self._node_id = (heldout, rewards, settings), node_id
        self._model, self._bar = model, bar
        self.tables: list[str] = []

    def __call__(self, tokens: PromptTokens) -> None:
        self._bar.phase(progress.ESTIMATING, 0, 0)
        notice, table = before_training(self._model, tokens, *self._about, self._bar.poll)
        host.tell(self._node_id, notice)
        self.tables.append(table)


def _ask_exports(
    model: Policy,
    folder: Path,
    workflow: dict | None,
    node_id: str | None,
    bar: Progress,
    _tokens: PromptTokens,
) -> None:
    bar.phase(progress.ASKING, 0, 0)
    check_exports(model, folder, workflow, node_id, bar.poll)


def _graph_id(page: object) -> str | None:
    """The id that the page gave the graph: a training is shown in that graph alone. A workflow can say anything here."""
    graph = page.get("workflow") if isinstance(page, dict) else None
    found = graph.get("id") if isinstance(graph, dict) else None
    return found[:_GRAPH_ID] if isinstance(found, str) else None


def _choose(root: Path, name: str, identity: dict[str, Any], steps: int) -> tuple[Path, str]:
    """The run's folder, and a line that says which it is and why, which is logged as well; a new one with 0 steps."""
    chosen, why = choose_name(root, name, identity, fresh=not steps, steps=steps)
    folder = root / chosen
    told = _tell(folder, name, why)
    check_tree(folder, "run_name")
    logger.info("%s", told)
    return folder, told


def _kept(workflow: dict | None) -> dict | None:
    """The graph as it is kept in the run's folder."""
    try:
        return to_json(workflow)
    except RecursionError as error:
        raise WorkflowError("the workflow is nested too deeply; load the original file") from error


def _tell(folder: Path, run_name: str, why: str) -> str:
    """Which folder the training uses, and why that one."""
    if (folder / RUN_FILE).exists():
        return f"continuing the run {folder.name} (same settings), in gdpo/{folder.name}"
    other = "" if folder.name == run_name else f"; {run_name} is left as it is"
    reason = f" ({why})" if why else ""
    return f"new run {folder.name}, in gdpo/{folder.name}{other}{reason}"
