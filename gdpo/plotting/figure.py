"""One figure of one or several runs: did the rewards rise, and at what price?

Everything is drawn through matplotlib's objects, never through pyplot, whose state is global and
belongs to the host. What is drawn is prepared in `data`; `panels` and `conflict_map` draw it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import write_atomically
from ..errors import TrainingError, shorten
from ..libraries import needed
from . import panels
from .conflict_map import draw_conflicts
from .data import LINES, FigureContent, Records

SIZE_INCHES = (15.0, 10.5)
DOTS_PER_INCH = 100


def plot_convergence(runs: Mapping[str, Records], path: str | Path | None = None) -> np.ndarray:
    """The convergence figure of one run, or of several laid over each other.

    Args:
        runs: Name of the run -> its records, as `read_history` gives them. At most four.
        path: Where to write the figure as PNG, too; a file there is replaced in one piece.

    Returns:
        Shape (height, width, 3), uint8.

    Raises:
        TrainingError: There is no run or too many, the file cannot be written, or a library is missing or broken.
    """
    with needed("matplotlib", "The figure", TrainingError):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    if not 1 <= len(runs) <= len(LINES):
        raise TrainingError(f"A figure shows 1 to {len(LINES)} runs. Found {len(runs)}.")
    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    _draw(figure, FigureContent.of(runs))
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    if path is not None:
        _write_png(pixels, Path(path))
    return pixels


def _draw(figure: Any, content: FigureContent) -> None:
    edges = {"left": 0.052, "right": 0.985, "top": 0.905, "bottom": 0.058}
    rows = figure.add_gridspec(3, 1, height_ratios=[1.25, 1.1, 0.85], hspace=0.33, **edges)
    upper, middle = (
        rows[row].subgridspec(1, 2, width_ratios=[2, 1], wspace=0.05) for row in (0, 1)
    )
    small = panels.small_panels(content)
    lower = rows[2].subgridspec(1, len(small), wspace=0.32 if len(small) < 6 else 0.37)
    panels.draw_title(figure, content)
    panels.draw_rewards(figure.add_subplot(upper[0]), content)
    panels.draw_key(figure.add_subplot(upper[1]), content)
    panels.draw_weights(figure.add_subplot(middle[0]), content)
    draw_conflicts(figure, middle[1], content)
    for column, draw in enumerate(small):
        draw(figure.add_subplot(lower[column]), content)


def _write_png(pixels: np.ndarray, path: Path) -> None:
    with needed("Pillow", "Writing the figure", TrainingError):
        from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise TrainingError(
            f"The figure cannot be written to {shorten(str(path), 200)}: {error.strerror}; free "
            "space or restore the folder and its permissions."
        ) from error
