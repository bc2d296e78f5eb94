"""What the panels of the figure have in common: colours, axes, lines and symbols.

All colours are set explicitly, because a host may have changed matplotlib's defaults.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .data import FigureContent

INK, GREY, PALE = "#222222", "#666666", "#ededed"


def prepare(
    axes: Any, title: str, content: FigureContent, *, unit: str = "", note: str = ""
) -> None:
    """Prepare axes over the steps."""
    from matplotlib.ticker import MaxNLocator

    axes.set_facecolor("white")
    axes.set_title(title, loc="left", size=11, weight="bold", color=INK)
    axes.set_title(note, loc="right", size=9, color=GREY)
    axes.set_xlabel("step", size=9, color=INK, labelpad=1)
    axes.set_ylabel(unit, size=9, color=INK)
    axes.tick_params(color="#999999", labelcolor=INK, labelsize=8.5)
    axes.grid(True, color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#999999")
    end = max(content.last_step, 1.0)
    axes.set_xlim(-0.02 * end, 1.02 * end)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))


def line(axes: Any, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """Draw a line; points without a neighbour to be joined to become dots."""
    known = np.isfinite(y)
    if known.any():
        axes.plot(x, y, **{"linewidth": 1.8, **style})
        alone = known & ~np.r_[False, known[:-1]] & ~np.r_[known[1:], False]
        axes.plot(x[alone], y[alone], ".", color=style["color"], markersize=6)


def band(axes: Any, x: np.ndarray, y: np.ndarray, half: np.ndarray, colour: str) -> None:
    """Draw a pale band around a line, `half` high to each side."""
    if np.isfinite(y + half).any():
        axes.fill_between(x, y - half, y + half, color=colour, alpha=0.15, linewidth=0)


def extent(axes: Any) -> tuple[float, float]:
    """Return the lowest and the highest drawn value; (0, 0) of empty axes."""
    if not axes.has_data():
        return 0.0, 0.0
    box = axes.dataLim
    return float(box.y0), float(box.y1)


def finish(axes: Any, *, bottom: float | None = None, top: float | None = None) -> None:
    """Makes the y axis reach from `bottom` to `top`, further where the data do."""
    if not axes.has_data():
        say_nothing(axes)
        axes.set_yticks([])
        return
    low, high = extent(axes)
    start = low if bottom is None else min(low, bottom)
    margin = 0.06 * (high - start) or 0.06 * abs(high) or 0.06
    low = bottom if bottom is not None and low >= bottom else low - margin
    axes.set_ylim(low, top if top is not None and high <= top else high + margin)


def say_nothing(axes: Any, text: str = "nothing recorded") -> None:
    """Write in the middle of empty axes why they are empty."""
    style = {"ha": "center", "va": "center", "color": GREY, "size": 10}
    axes.text(0.5, 0.5, text, transform=axes.transAxes, **style)


def symbol(axes: Any, x: float, y: float, content: FigureContent, index: int, **style: Any) -> None:
    """Draw the colour and marker by which a reward is known in the whole figure."""
    look = {"color": content.colour(index), "markersize": 6.5, "markeredgecolor": "white", **style}
    axes.plot([x], [y], content.marker(index), **look)
