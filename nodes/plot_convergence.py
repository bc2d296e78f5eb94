"""Plot Convergence: one figure of how the rewards rose, beside the run and as an IMAGE."""

from __future__ import annotations

from ..gdpo.history import read_history
from ..gdpo.plotting import plot_convergence
from ..gdpo.trainer import TrainResult
from . import host
from .guard import guarded
from .inputs import socket

FIGURE = "convergence.png"


class GDPOPlotConvergence:
    """Gives the figure of one run, or of several laid over each other."""

    DESCRIPTION = (
        "Draws each reward with its confidence band, the weights, the conflicts between rewards, the length and the "
        f"dispersion over the steps of a run, and saves the figure as {FIGURE} in the run's folder."
    )
    CATEGORY = "GDPO/train"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The figure, (1, height, width, 3) with values from 0 to 1.",)
    FUNCTION = "plot"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """The node's inputs, as ComfyUI asks for them."""
        return {
            "required": {"run": socket("GDPO_RUN", "The run to draw (from GDPO Train).")},
            "optional": {
                f"run_{number}": socket("GDPO_RUN", "One more run, laid over the first to compare.")
                for number in range(2, 5)
            },
        }

    @guarded
    def plot(self, run: TrainResult, **others: TrainResult) -> dict:
        """Draw the runs; see `gdpo.plotting.plot_convergence`."""
        import torch

        path = run.folder / FIGURE
        runs = [run, *(others[name] for name in sorted(others))]
        pixels = plot_convergence({one.folder.name: read_history(one.folder) for one in runs}, path)
        image = torch.from_numpy(pixels.copy()).float().div(255).unsqueeze(0)  # (1, H, W, 3)
        return {"ui": {"images": [host.shown_image(path)]}, "result": (image,)}
