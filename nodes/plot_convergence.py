"""Plot Convergence: one figure of how the rewards rose, beside the run and as an IMAGE."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from ..gdpo.errors import WorkflowError, shorten
from ..gdpo.plotting.figure import plot_convergence
from ..gdpo.runs.history import HISTORY_FILE, read_history
from ..gdpo.to_json import to_json
from ..gdpo.training.trainer import TrainResult
from .checks.guard import guarded
from .checks.inputs import socket, text
from .checks.paths import check_tree, list_runs, name_verdict, resolve_output
from .comfy import host
from .comfy.live import describe_run

logger = logging.getLogger(__name__)

FIGURE = "convergence.png"
MAX_RUNS = 4
MAX_CHARACTERS = 1000  # of saved_runs; four names have a third of it
_LISTED = 8  # names of runs that a message offers
_OFFERED = 100  # and that the page's menu offers


class GDPOPlotConvergence:
    """Gives the figure of one run, or of several laid over each other."""

    DESCRIPTION = (
        "Draws each reward with its confidence band, the weights, the conflicts between rewards, the length and the "
        f"dispersion over the steps of a run, and saves the figure as {FIGURE} in the run's folder. Runs of earlier "
        "days can be laid over it, or drawn alone, by their names."
    )
    CATEGORY = "GDPO/train"
    SEARCH_ALIASES = ("chart", "graph", "training curve", "loss", "GDPO")
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The figure, (1, height, width, 3) with values from 0 to 1.",)
    FUNCTION = "plot"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Return the node's inputs, as ComfyUI asks for them."""
        saved = host.folders().output / "gdpo"
        kind, look = text(
            "",
            "Names of saved runs below gdpo/ in the output folder, with commas between them: they are laid "
            f"over the linked ones, or drawn alone. {MAX_RUNS} runs at most.",
            hint="e.g. my-run, my-run-2",
        )
        return {
            "required": {},
            "optional": {
                "run": socket("GDPO_RUN", "The run to draw (from GDPO Train)."),
                **{
                    f"run_{number}": socket(
                        "GDPO_RUN", "One more run, laid over the first to compare."
                    )
                    for number in range(2, MAX_RUNS + 1)
                },
                # The page makes a menu of the names, see web/saved_runs.mjs; any other name may be typed.
                "saved_runs": (kind, {**look, "saved": _nameable(saved)[:_OFFERED]}),
            },
        }

    @classmethod
    def IS_CHANGED(cls, saved_runs: object = None, **_: object) -> str:
        """Changes with the saved runs, which may have grown since; must not fail."""
        try:
            named = "" if saved_runs is None else saved_runs
            files = [folder / HISTORY_FILE for folder in _saved_folders(named)]
            return str([file.stat().st_mtime_ns for file in files])
        except (WorkflowError, OSError) as error:
            return str(error)  # the node itself says it

    @guarded
    def plot(self, saved_runs: str = "", **linked: TrainResult) -> dict:
        """Draw the runs; see `gdpo.plot_convergence`."""
        import torch

        folders = [linked[name].folder for name in sorted(linked)]
        folders = list(dict.fromkeys([*folders, *_saved_folders(saved_runs)]))
        if not folders:
            raise WorkflowError("nothing to draw: link a run, or name a saved one in saved_runs")
        for folder in folders:
            check_tree(folder, "run")
        path = folders[0] / FIGURE
        runs = {folder: read_history(folder) for folder in folders}
        pixels = plot_convergence({folder.name: runs[folder] for folder in folders}, path)
        image = torch.from_numpy(pixels.copy()).float().div(255).unsqueeze(0)  # (1, H, W, 3)
        shown = [to_json(describe_run(folder, runs[folder])) for folder in folders]
        return {
            "ui": {"images": [host.shown_image(path)], "gdpo_runs": shown},
            "result": (image,),
        }


def _saved_folders(names: object) -> Iterator[Path]:
    """Yield the folders of saved runs; no folder is looked at where there are too many names."""
    if not isinstance(names, str):
        raise WorkflowError(f"saved_runs must be text, found {shorten(names)}")
    if len(names) > MAX_CHARACTERS:
        raise WorkflowError(
            f"saved_runs has {len(names)} characters, at most {MAX_CHARACTERS} are taken; name {MAX_RUNS} "
            "runs at most"
        )
    wanted = dict.fromkeys(filter(None, (name.strip() for name in names.split(","))))
    if len(wanted) > MAX_RUNS:
        raise WorkflowError(
            f"saved_runs should name {MAX_RUNS} runs at most. Found {len(wanted)}; take some out"
        )
    for name in wanted:
        folder = resolve_output(name, what="saved_runs")
        if not os.path.isfile(folder / HISTORY_FILE):
            raise WorkflowError(
                f"saved_runs: there is no run {shorten(name)}{_offer(folder.parent)}"
            )
        yield folder


def _offer(root: Path) -> str:
    """Return the newest runs in `root`, as the end of a message."""
    names = _nameable(root)
    return "; the newest are " + ", ".join(names[:_LISTED]) if names else ""


def _nameable(root: Path) -> list[str]:
    """Return the saved runs in `root` that can be named, the newest first; must not fail."""
    return [name for name in list_runs(root) if name_verdict(name, "saved_runs") is True]
