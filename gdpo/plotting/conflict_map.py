"""The map of conflicts between rewards, one for each run of the figure."""

from __future__ import annotations

from typing import Any

import numpy as np

from .axes import GREY, INK, PALE, say_nothing, symbol
from .data import FigureContent, PlottedRun

# More rows and columns than this, and numbers would not fit into the cells of the map.
_CLEAR_CELLS = 9


def draw_conflicts(figure: Any, place: Any, content: FigureContent) -> None:
    """Draw one map per run of which rewards pull the policy apart (red) or together (blue)."""
    _names, maps, bar = place.subgridspec(1, 3, width_ratios=[0.3, 0.6, 0.1], wspace=0.02)
    columns = min(2, len(content.runs))
    shape = (-(-len(content.runs) // columns), columns)
    # Several maps need room above them for the line style of their run.
    maps = maps if content.single else maps.subgridspec(2, 1, height_ratios=[0.06, 1], hspace=0)[1]
    grid = maps.subgridspec(*shape, wspace=0.06, hspace=0.4)
    frame = figure.add_subplot(place)
    frame.set_axis_off()
    frame.set_title("Conflicts", loc="left", size=11, weight="bold", color=INK)
    frame.set_title("cosine of gradients, last quarter", loc="right", size=9, color=GREY)
    shown = [
        _draw_map(figure.add_subplot(grid[number]), content, run, labelled=number % columns == 0)
        for number, run in enumerate(content.runs)
    ]
    scale = figure.add_subplot(bar)
    scale.set_axis_off()
    image = next((image for image in shown if image is not None), None)
    if image is not None:
        strip = scale.inset_axes((0.1, 0.15, 0.16, 0.7))
        figure.colorbar(image, cax=strip, ticks=[-1, 0, 1])
        strip.set_yticklabels(["–1 against", "0", "+1 together"][: len(strip.get_yticks())])
        strip.tick_params(length=0, labelsize=8, labelcolor=INK, labelrotation=90)
        for spine in strip.spines.values():
            spine.set_visible(False)


def _draw_map(axes: Any, content: FigureContent, run: PlottedRun, *, labelled: bool) -> Any:
    """Return the mean cosines of the reward gradients; None where the run has recorded none."""
    count = len(content.rewards)
    matrix = run.cosines(count) if count > 1 else None
    axes.set_facecolor(PALE)
    axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if not content.single:
        look = {"color": INK, "linestyle": run.line, "clip_on": False}
        axes.plot([0.3, 0.7], [1.09, 1.09], transform=axes.transAxes, **look)
    if matrix is None:
        say_nothing(axes, "a single reward" if count == 1 else "nothing recorded")
        return None
    np.fill_diagonal(matrix, np.nan)  # A reward agrees with itself; that is no news.
    image = axes.imshow(matrix, cmap="RdBu", vmin=-1.0, vmax=1.0)
    size = 8 if count * len(content.runs) > 5 else 10
    if count * len(content.runs) <= _CLEAR_CELLS:
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                colour = "white" if abs(value) > 0.6 else INK
                style = {"ha": "center", "va": "center", "size": size, "color": colour}
                axes.text(column, row, f"{value:+.2f}".replace("-", "−"), **style)
    # The names would not fit under the columns; the symbols of the table above do.
    for index in range(count):
        symbol(axes, index, count - 0.5 + 0.05 * count, content, index, clip_on=False)
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    if labelled:
        size = 9.5 if count <= 8 else 7.5
        axes.set_yticks(
            range(count), content.labels, size=size, color=INK, fontfamily=content.fonts
        )
    return image
