"""The panels of the convergence figure, one function each.

All colours are set explicitly, because a host may have changed matplotlib's defaults.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .data import COLOURS, FigureContent, PlottedRun, smooth

INK, GREY, PALE = "#222222", "#666666", "#ededed"
ALARM = COLOURS[1]
# More lines than this, and faint raw lines and bands would only blur the picture.
_CLEAR_LINES = 6
# More rows and columns than this, and numbers would not fit into the cells of the map.
_CLEAR_CELLS = 9


def draw_title(figure: Any, content: FigureContent) -> None:
    """The names of the runs, and how much there is."""
    names = "  vs  ".join(run.label for run in content.runs)
    names = names if len(names) <= 100 else f"{len(content.runs)} runs"
    style = {"va": "center", "color": INK, "fontfamily": content.fonts}
    figure.text(0.052, 0.962, names, size=17, weight="bold", **style)
    facts = f"{_count(int(content.last_step), 'step')} · {_count(len(content.rewards), 'reward')}"
    converged = [run.records[-1].get("converged") is True for run in content.runs if run.records]
    facts += " · converged" if converged and all(converged) else ""
    figure.text(0.985, 0.962, facts, size=12, ha="right", **style)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def draw_rewards(axes: Any, content: FigureContent) -> None:
    """Each reward over the steps: training as a line, held-out evaluations as markers."""
    clear = len(content.runs) * len(content.rewards) <= _CLEAR_LINES
    note = "line: training, smoothed" + (", with 95 % band" if clear else "")
    note += "     marker: held-out prompts ± standard error" if content.evaluated else ""
    _prepare(axes, "Rewards", content, note=note)
    for run in content.runs:
        for index, name in enumerate(content.rewards):
            colour, raw = content.colour(index), run.series("rewards", name, "mean")
            mean, half = smooth(raw)
            if clear:
                _band(axes, run.steps, mean, half, colour)
            if clear and content.single:
                axes.plot(run.steps, raw, color=colour, linewidth=0.6, alpha=0.4)
            _line(axes, run.steps, mean, color=colour, linestyle=run.line)
            _held_out(
                axes, run, name, content.marker(index), colour, hollow=run is not content.runs[0]
            )
    low, high = _extent(axes)
    # Most rewards live between 0 and 1; then every figure should have the same scale.
    unit = low >= -0.05 and high <= 1.05
    _finish(axes, bottom=0.0 if unit else None, top=1.03 if unit else None)


def _held_out(
    axes: Any, run: PlottedRun, name: str, marker: str, colour: str, *, hollow: bool
) -> None:
    values = run.series("eval", "rewards", name, "mean")
    if not np.isfinite(values).any():
        return
    errors = run.series("eval", "rewards", name, "standard_error")
    axes.errorbar(
        run.steps,
        values,
        yerr=np.where(np.isfinite(errors), errors, 0.0),
        fmt=marker,
        color=colour,
        markersize=6.5,
        markerfacecolor="white" if hollow else colour,
        markeredgecolor=colour if hollow else "white",
        markeredgewidth=1.2 if hollow else 0.8,
        elinewidth=1.2,
        capsize=2.5,
        zorder=5,
    )


def draw_key(axes: Any, content: FigureContent) -> None:
    """A table instead of a legend: each reward with its first and last value in each run."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    lines = len(content.rewards) + (1 if content.single else len(content.runs) + 3)
    pitch = min(0.085, 1.0 / lines)
    size = 10.5 if pitch > 0.065 else 8.5
    text = {"va": "center", "color": INK, "size": size, "fontfamily": content.fonts}
    width = 0.58 / len(content.runs)
    middles = [0.42 + width * (number + 0.5) for number in range(len(content.runs))]
    source = "held-out prompts" if content.evaluated else "training"
    rows = iter(1.0 - pitch * (row + 0.5) for row in range(lines))
    y = next(rows)
    axes.text(0.71, y, f"{source}, first → last", ha="center", **{**text, "color": GREY})
    if not content.single:
        y = next(rows)
        for run, middle in zip(content.runs, middles, strict=True):
            axes.plot([middle - 0.04, middle + 0.04], [y, y], color=INK, linestyle=run.line)
    fitting = (10.5, 10.5, 8.5, 7.5)[len(content.runs) - 1]
    cells = {**text, "size": min(size, fitting), "ha": "center"}
    for index, (name, label) in enumerate(zip(content.rewards, content.labels, strict=True)):
        y = next(rows)
        axes.plot([0.01, 0.06], [y, y], color=content.colour(index), linewidth=2)
        _symbol(axes, 0.035, y, content, index)
        axes.text(0.08, y, label, **text)
        for run, middle in zip(content.runs, middles, strict=True):
            change = " → ".join(f"{value:.2f}" for value in run.change(name))
            axes.text(middle, y, change or "–", **cells)
    if not content.single:
        next(rows)
        for run, y in zip(content.runs, rows, strict=False):
            axes.plot([0.01, 0.08], [y, y], color=INK, linestyle=run.line)
            axes.text(0.1, y, run.label, **text)


def _symbol(
    axes: Any, x: float, y: float, content: FigureContent, index: int, **style: Any
) -> None:
    """The colour and marker by which a reward is known in the whole figure."""
    look = {"color": content.colour(index), "markersize": 6.5, "markeredgecolor": "white", **style}
    axes.plot([x], [y], content.marker(index), **look)


def draw_weights(axes: Any, content: FigureContent) -> None:
    """What the method decided, over what was wished for at that step."""
    _prepare(axes, "Weights", content, note="dashed: working preference" if content.single else "")
    for run in content.runs:
        for index, name in enumerate(content.rewards):
            colour = content.colour(index)
            if content.single:
                wish = run.series("preferences", name)
                _line(axes, run.steps, wish, color=colour, linestyle="--", linewidth=1.1)
            _line(axes, run.steps, run.series("weights", name), color=colour, linestyle=run.line)
    _finish(axes, bottom=0.0)


def draw_conflicts(figure: Any, place: Any, content: FigureContent) -> None:
    """One map per run of which rewards pull the policy apart (red) or together (blue)."""
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
    """The mean cosines of the reward gradients; None where the run has recorded none."""
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
        _say_nothing(axes, "a single reward" if count == 1 else "nothing recorded")
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
        _symbol(axes, index, count - 0.5 + 0.05 * count, content, index, clip_on=False)
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    if labelled:
        size = 9.5 if count <= 8 else 7.5
        axes.set_yticks(
            range(count), content.labels, size=size, color=INK, fontfamily=content.fonts
        )
    return image


def draw_length(axes: Any, content: FigureContent) -> None:
    """How long the completions are."""
    _prepare(
        axes, "Length", content, unit="tokens", note="mean ± std" if content.single else "mean"
    )
    for run in content.runs:
        mean = run.series("length", "mean")
        if content.single:
            _band(axes, run.steps, mean, run.series("length", "std"), INK)
        _line(axes, run.steps, mean, color=INK, linestyle=run.line)
    _finish(axes, bottom=0.0)


def draw_truncated(axes: Any, content: FigureContent) -> None:
    """How many completions the token limit cut off."""
    _prepare(axes, "Cut off by the token limit", content, unit="% of completions")
    for run in content.runs:
        _line(axes, run.steps, 100 * run.series("truncated"), color=INK, linestyle=run.line)
    _finish(axes, bottom=0.0, top=5.0)


def draw_dispersion(axes: Any, content: FigureContent) -> None:
    """How evenly the rewards steer the update, against the floor where one is set."""
    floors = [run.series("dispersion_floor") for run in content.runs]
    floored = any(np.isfinite(floor).any() for floor in floors)
    note = "dashed: floor" if floored else ""
    _prepare(axes, "Dispersion", content, unit="directions / rewards", note=note)
    for run, floor in zip(content.runs, floors, strict=True):
        _line(axes, run.steps, floor, color=ALARM, linewidth=1.2, linestyle="--")
        _line(axes, run.steps, run.series("dispersion"), color=INK, linestyle=run.line)
    _finish(axes, bottom=0.0, top=1.02)


def draw_kl(axes: Any, content: FigureContent) -> None:
    """How far the policy has moved from its base."""
    _prepare(axes, "Distance from the base", content, unit="KL, nats per token")
    for run in content.runs:
        _line(axes, run.steps, run.series("kl"), color=INK, linestyle=run.line)
    _finish(axes, bottom=0.0)


def draw_entropy(axes: Any, content: FigureContent) -> None:
    """How undecided the policy still is; near 0 it no longer explores."""
    _prepare(axes, "Entropy", content, unit="nats per token")
    for run in content.runs:
        _line(axes, run.steps, run.series("entropy"), color=INK, linestyle=run.line)
    _finish(axes, bottom=0.0)


def _prepare(
    axes: Any, title: str, content: FigureContent, *, unit: str = "", note: str = ""
) -> None:
    """Axes over the steps."""
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


def _line(axes: Any, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """A line; points without a neighbour to be joined to become dots."""
    known = np.isfinite(y)
    if known.any():
        axes.plot(x, y, **{"linewidth": 1.8, **style})
        alone = known & ~np.r_[False, known[:-1]] & ~np.r_[known[1:], False]
        axes.plot(x[alone], y[alone], ".", color=style["color"], markersize=6)


def _band(axes: Any, x: np.ndarray, y: np.ndarray, half: np.ndarray, colour: str) -> None:
    if np.isfinite(y + half).any():
        axes.fill_between(x, y - half, y + half, color=colour, alpha=0.15, linewidth=0)


def _extent(axes: Any) -> tuple[float, float]:
    """Lowest and highest drawn value; (0, 0) of empty axes."""
    if not axes.has_data():
        return 0.0, 0.0
    box = axes.dataLim
    return float(box.y0), float(box.y1)


def _finish(axes: Any, *, bottom: float | None = None, top: float | None = None) -> None:
    """Makes the y axis reach from `bottom` to `top`, further where the data do."""
    if not axes.has_data():
        _say_nothing(axes)
        axes.set_yticks([])
        return
    low, high = _extent(axes)
    start = low if bottom is None else min(low, bottom)
    margin = 0.06 * (high - start) or 0.06 * abs(high) or 0.06
    low = bottom if bottom is not None and low >= bottom else low - margin
    axes.set_ylim(low, top if top is not None and high <= top else high + margin)


def _say_nothing(axes: Any, text: str = "nothing recorded") -> None:
    style = {"ha": "center", "va": "center", "color": GREY, "size": 10}
    axes.text(0.5, 0.5, text, transform=axes.transAxes, **style)
