"""The panels of the convergence figure over the steps, and its table, one function each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .axes import GREY, INK, band, extent, finish, line, prepare, symbol
from .data import COLOURS, FigureContent, PlottedRun, smooth

ALARM = COLOURS[1]
# More lines than this, and faint raw lines and bands would only blur the picture.
_CLEAR_LINES = 6


def draw_title(figure: Any, content: FigureContent) -> None:
    """Draw the names of the runs, and how much there is."""
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
    """Draw each reward over the steps: training as a line, held-out evaluations as markers."""
    clear = len(content.runs) * len(content.rewards) <= _CLEAR_LINES
    note = "line: training, smoothed" + (", with 95 % band" if clear else "")
    note += "     marker: held-out prompts ± standard error" if content.evaluated else ""
    prepare(axes, "Rewards", content, note=note)
    for run in content.runs:
        for index, name in enumerate(content.rewards):
            colour, raw = content.colour(index), run.series("rewards", name, "mean")
            mean, half = smooth(raw)
            if clear:
                band(axes, run.steps, mean, half, colour)
            if clear and content.single:
                axes.plot(run.steps, raw, color=colour, linewidth=0.6, alpha=0.4)
            line(axes, run.steps, mean, color=colour, linestyle=run.line)
            _held_out(
                axes, run, name, content.marker(index), colour, hollow=run is not content.runs[0]
            )
    low, high = extent(axes)
    # Most rewards live between 0 and 1; then every figure should have the same scale.
    unit = low >= -0.05 and high <= 1.05
    finish(axes, bottom=0.0 if unit else None, top=1.03 if unit else None)


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
    """Draw a table instead of a legend: each reward with its first and last value in each run."""
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
        symbol(axes, 0.035, y, content, index)
        axes.text(0.08, y, label, **text)
        for run, middle in zip(content.runs, middles, strict=True):
            change = " → ".join(f"{value:.2f}" for value in run.change(name))
            axes.text(middle, y, change or "–", **cells)
    if not content.single:
        next(rows)
        for run, y in zip(content.runs, rows, strict=False):
            axes.plot([0.01, 0.08], [y, y], color=INK, linestyle=run.line)
            axes.text(0.1, y, run.label, **text)


def draw_weights(axes: Any, content: FigureContent) -> None:
    """Draw what the method decided, over what was wished for at that step."""
    prepare(axes, "Weights", content, note="dashed: working preference" if content.single else "")
    for run in content.runs:
        for index, name in enumerate(content.rewards):
            colour = content.colour(index)
            if content.single:
                wish = run.series("preferences", name)
                line(axes, run.steps, wish, color=colour, linestyle="--", linewidth=1.1)
            line(axes, run.steps, run.series("weights", name), color=colour, linestyle=run.line)
    finish(axes, bottom=0.0)


def draw_length(axes: Any, content: FigureContent) -> None:
    """Draw how long the completions are."""
    prepare(axes, "Length", content, unit="tokens", note="mean ± std" if content.single else "mean")
    for run in content.runs:
        mean = run.series("length", "mean")
        if content.single:
            band(axes, run.steps, mean, run.series("length", "std"), INK)
        line(axes, run.steps, mean, color=INK, linestyle=run.line)
    finish(axes, bottom=0.0)


def draw_truncated(axes: Any, content: FigureContent) -> None:
    """Draw how many completions the token limit cut off."""
    prepare(axes, "Cut off by the token limit", content, unit="% of completions")
    for run in content.runs:
        line(axes, run.steps, 100 * run.series("truncated"), color=INK, linestyle=run.line)
    finish(axes, bottom=0.0, top=5.0)


def draw_dispersion(axes: Any, content: FigureContent) -> None:
    """Draw how evenly the rewards steer the update, against the floor where one is set."""
    floors = [run.series("dispersion_floor") for run in content.runs]
    floored = any(np.isfinite(floor).any() for floor in floors)
    note = "dashed: floor" if floored else ""
    prepare(axes, "Dispersion", content, unit="directions / rewards", note=note)
    for run, floor in zip(content.runs, floors, strict=True):
        line(axes, run.steps, floor, color=ALARM, linewidth=1.2, linestyle="--")
        line(axes, run.steps, run.series("dispersion"), color=INK, linestyle=run.line)
    finish(axes, bottom=0.0, top=1.02)


def draw_kl(axes: Any, content: FigureContent) -> None:
    """Draw how far the policy has moved from its base."""
    prepare(axes, "Distance from the base", content, unit="KL, nats per token")
    for run in content.runs:
        line(axes, run.steps, run.series("kl"), color=INK, linestyle=run.line)
    finish(axes, bottom=0.0)


def draw_entropy(axes: Any, content: FigureContent) -> None:
    """Draw how undecided the policy still is; near 0 it no longer explores."""
    prepare(axes, "Entropy", content, unit="nats per token")
    for run in content.runs:
        line(axes, run.steps, run.series("entropy"), color=INK, linestyle=run.line)
    finish(axes, bottom=0.0)


def draw_step(axes: Any, content: FigureContent) -> None:
    """Draw how far each natural step changed the policy, and of one run alone how far it was to."""
    note = "dashed: predicted" if content.single else ""
    prepare(axes, "Step", content, unit="KL, nats per completion", note=note)
    for run in content.runs:
        if content.single:
            line(axes, run.steps, run.series("step_kl"), color=ALARM, linewidth=1.2, linestyle="--")
        line(axes, run.steps, run.series("step_kl_measured"), color=INK, linestyle=run.line)
    finish(axes, bottom=0.0)


def small_panels(content: FigureContent) -> list[Callable[[Any, FigureContent], None]]:
    """Return what draws the lowest row; the step is in it where a record has one."""
    always = [draw_length, draw_truncated, draw_dispersion, draw_kl, draw_entropy]
    stepped = any(np.isfinite(run.series("step_kl")).any() for run in content.runs)
    return [*always, draw_step] if stepped else always
