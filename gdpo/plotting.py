"""One figure of one or several runs that a person can read: did the rewards rise, and at what price?

Everything is drawn through matplotlib's objects, never through pyplot, whose global state belongs to
the host.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import TrainingError, shorten

Records = Sequence[Mapping[str, Any]]

SIZE_INCHES = (15.0, 10.5)
DOTS_PER_INCH = 100
# Colours that people with any common colour blindness can tell apart: Okabe and Ito's, without the
# yellow that vanishes on white, then Tol's "muted". With the markers, 16 rewards stay distinct.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
    "#332288", "#882255", "#44AA99", "#999933", "#CC6677", "#117733", "#88CCEE", "#AA4499", "#DDCC77",
)  # fmt: skip
MARKERS = "osD^vP*Xp<>hd8HD"
LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
INK, FAINT = "#222222", "#999999"
# Confidence of the bands around smoothed lines.
_Z95 = 1.96
# Families to try for names outside DejaVu Sans, which comes with matplotlib but knows no Japanese.
_MORE_FONTS = (
    "Noto Sans CJK JP", "Noto Sans JP", "Source Han Sans", "IPAexGothic", "IPAGothic", "TakaoGothic",
    "VL Gothic", "Yu Gothic", "Meiryo", "MS Gothic", "Hiragino Sans", "Hiragino Maru Gothic Pro",
    "Microsoft YaHei", "SimHei", "PingFang SC", "WenQuanYi Zen Hei", "Droid Sans Fallback",
    "Malgun Gothic", "Apple SD Gothic Neo", "Arial Unicode MS",
)  # fmt: skip


def plot_convergence(runs: Mapping[str, Records], path: Path | None = None) -> np.ndarray:
    """The convergence figure of one run, or of several laid over each other.

    Args:
        runs: Name of the run -> its history records, in order. At most six.
        path: Where to write the figure as PNG, too; a file there is replaced in one piece.

    Returns:
        Shape (height, width, 3), uint8.

    Raises:
        TrainingError: There is no run or too many, or the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not 1 <= len(runs) <= len(LINES):
        raise TrainingError(f"A figure shows 1 to {len(LINES)} runs. Found {len(runs)}.")
    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    _draw(figure, _Plan.of(runs))
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    if path is not None:
        _write_png(canvas, Path(path))
    return pixels


def _write_png(canvas: Any, path: Path) -> None:
    buffer = io.BytesIO()
    canvas.print_png(buffer, metadata={"Software": None})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(buffer.getvalue())
        os.replace(temporary, path)
    except OSError as error:
        raise TrainingError(
            f"The figure cannot be written to {shorten(str(path), 200)}: {error.strerror}."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


# --- data ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """One run as arrays over its records."""

    records: Records
    label: str
    line: Any

    @property
    def steps(self) -> np.ndarray:
        return np.array([float(record["step"]) for record in self.records])

    def series(self, *keys: str) -> np.ndarray:
        """The number at `keys` of each record; NaN where a record has none."""
        return np.array([_number(record, keys) for record in self.records], dtype=float)


@dataclass(frozen=True)
class _Plan:
    """What is drawn, and how its parts are told apart: colours are rewards, line styles are runs."""

    runs: tuple[_Run, ...]
    rewards: tuple[str, ...]
    labels: tuple[str, ...]
    fonts: list[str]

    @classmethod
    def of(cls, runs: Mapping[str, Records]) -> _Plan:
        fonts = _fonts()
        names: dict[str, None] = {}
        for records in runs.values():
            for record in records:
                names.update(dict.fromkeys(record.get("rewards") or {}))
                names.update(dict.fromkeys((record.get("eval") or {}).get("rewards") or {}))
        return cls(
            runs=tuple(
                _Run(records, _readable(name, f"run {number}", 60, fonts), LINES[number - 1])
                for number, (name, records) in enumerate(runs.items(), start=1)
            ),
            rewards=tuple(names),
            labels=tuple(
                _readable(name, f"reward {number}", 22, fonts)
                for number, name in enumerate(names, start=1)
            ),
            fonts=list(fonts),
        )

    @property
    def single(self) -> bool:
        return len(self.runs) == 1

    def colour(self, index: int) -> str:
        return COLOURS[index % len(COLOURS)]

    def marker(self, index: int) -> str:
        return MARKERS[index % len(MARKERS)]


def _number(record: Any, keys: tuple[str, ...]) -> float:
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    number = isinstance(record, (int, float)) and not isinstance(record, bool)
    return float(record) if number and np.isfinite(record) else np.nan


def _fonts() -> dict[str, Any]:
    """Installed families for names, by name, with what tells which characters they know."""
    from matplotlib import font_manager

    installed = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    wanted = [name for name in ("DejaVu Sans", *_MORE_FONTS) if name in installed]
    return {name: font_manager.get_font(installed[name]).get_charmap() for name in wanted}


def _readable(name: str, fallback: str, limit: int, fonts: Mapping[str, Any]) -> str:
    """`name` as matplotlib may show it; `fallback` if no installed font has its characters."""
    if not all(any(ord(character) in known for known in fonts.values()) for character in name):
        return fallback
    cut = name if len(name) <= limit else name[: limit - 1] + "…"
    return cut.replace("$", r"\$")  # A pair of dollar signs would start a formula.


def _smooth(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centred moving mean of a noisy line, and the half-width of its 95 % confidence band.

    The band comes from how much the steps inside the window differ. Gaps stay gaps.
    """
    reach = max(1, len(values) // 30)
    mean, half = np.full_like(values, np.nan), np.full_like(values, np.nan)
    for index in np.flatnonzero(np.isfinite(values)):
        window = values[max(0, index - reach) : index + reach + 1]
        window = window[np.isfinite(window)]
        mean[index] = window.mean()
        if len(window) > 1:
            half[index] = _Z95 * window.std(ddof=1) / np.sqrt(len(window))
    return mean, half


def _change(run: _Run, reward: str) -> tuple[float, float, bool]:
    """First and last value of a reward, and whether they are from held-out prompts."""
    held_out = run.series("eval", "rewards", reward, "mean")
    values = held_out[np.isfinite(held_out)]
    if len(values):
        return values[0], values[-1], True
    mean, _ = _smooth(run.series("rewards", reward, "mean"))
    values = mean[np.isfinite(mean)]
    return (values[0], values[-1], False) if len(values) else (np.nan, np.nan, False)


def _cosines(run: _Run, count: int) -> np.ndarray | None:
    """Mean cosine matrix (K, K) over the last quarter of the steps that have one of that size."""
    found = []
    for record in run.records:
        matrix = np.array(record.get("cosines") or [], dtype=object)
        if matrix.shape == (count, count):
            found.append([[_number({"x": cell}, ("x",)) for cell in row] for row in matrix])
    if not found:
        return None
    last = np.array(found[-max(1, len(found) // 4) :])
    known = np.isfinite(last).sum(axis=0)
    total = np.where(np.isfinite(last), last, 0.0).sum(axis=0)
    return np.where(known > 0, total / np.maximum(known, 1), np.nan)


# --- drawing -------------------------------------------------------------------------------------


def _draw(figure: Any, plan: _Plan) -> None:
    rows = figure.add_gridspec(
        3, 1, height_ratios=[1.25, 1.1, 0.8], hspace=0.36, left=0.05, right=0.985, top=0.91, bottom=0.06
    )
    top = rows[0].subgridspec(1, 2, width_ratios=[2.1, 1], wspace=0.04)
    middle = rows[1].subgridspec(1, 2, width_ratios=[1.35, 1], wspace=0.14)
    bottom = rows[2].subgridspec(1, 5, wspace=0.3)
    _title(figure, plan)
    _draw_rewards(figure.add_subplot(top[0]), plan)
    _draw_key(figure.add_subplot(top[1]), plan)
    _draw_weights(figure.add_subplot(middle[0]), plan)
    _draw_conflicts(figure, middle[1], plan)
    _draw_length(figure.add_subplot(bottom[0]), plan)
    _draw_single(
        figure.add_subplot(bottom[1]), plan, "Cut off at the token limit", "truncated", scale=100.0,
        unit="% of completions", top=5.0,
    )  # fmt: skip
    _draw_dispersion(figure.add_subplot(bottom[2]), plan)
    _draw_single(
        figure.add_subplot(bottom[3]), plan, "Distance from the base (KL)", "kl", unit="nats per token"
    )  # fmt: skip
    _draw_single(figure.add_subplot(bottom[4]), plan, "Entropy", "entropy", unit="nats per token")


def _title(figure: Any, plan: _Plan) -> None:
    names = "  vs  ".join(run.label for run in plan.runs)
    names = names if len(names) <= 110 else f"{len(plan.runs)} runs"
    figure.text(
        0.05, 0.965, names, size=17, weight="bold", color=INK, va="center", fontfamily=plan.fonts
    )
    steps = max((int(run.steps[-1]) for run in plan.runs if len(run.steps)), default=0)
    held = " · converged" if plan.single and _converged(plan.runs[0]) else ""
    rewards = f"{len(plan.rewards)} reward{'s' * (len(plan.rewards) != 1)}"
    figure.text(0.985, 0.965, f"{steps} steps · {rewards}{held}", size=12, color=INK, ha="right", va="center")


def _converged(run: _Run) -> bool:
    return bool(run.records) and run.records[-1].get("converged") is True


def _prepare(axes: Any, title: str, plan: _Plan, *, unit: str = "", note: str = "") -> None:
    """Plain axes over the steps. All colours are set here: a host may have changed the defaults."""
    from matplotlib.ticker import MaxNLocator

    axes.set_facecolor("white")
    axes.set_title(title, loc="left", size=11, weight="bold", color=INK)
    if note:
        axes.set_title(note, loc="right", size=9, color="#555555")
    axes.set_xlabel("step", size=9, color=INK, labelpad=1)
    axes.set_ylabel(unit, size=9, color=INK)
    axes.tick_params(colors=INK, labelsize=8.5)
    axes.grid(True, color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    last = max((run.steps.max() for run in plan.runs if len(run.steps)), default=0.0)
    axes.set_xlim(-0.02 * max(last, 1.0), 1.02 * max(last, 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _finish(axes: Any, *, bottom: float | None = None, top: float | None = None) -> None:
    """Widens the y axis to `bottom` and `top` where the data need less; says so where there are none."""
    if not axes.has_data():
        axes.text(
            0.5, 0.5, "nothing recorded", transform=axes.transAxes, color=FAINT, ha="center",
            va="center", size=10,
        )  # fmt: skip
        axes.set_yticks([])
        return
    low, high = axes.get_ylim()
    low = low if bottom is None else min(low, bottom) if low < bottom - 1e-9 else bottom
    high = high if top is None else max(high, top)
    axes.set_ylim(low, high)


def _line(axes: Any, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """A line; points that have no neighbour to be joined to become dots."""
    known = np.isfinite(y)
    if not known.any():
        return
    style = {"linewidth": 1.8, **style}
    axes.plot(x, y, **style)
    alone = known & ~np.r_[False, known[:-1]] & ~np.r_[known[1:], False]
    axes.plot(x[alone], y[alone], ".", color=style.get("color"), markersize=5)


def _band(axes: Any, x: np.ndarray, y: np.ndarray, half: np.ndarray, colour: str) -> None:
    if np.isfinite(y + half).any():
        axes.fill_between(x, y - half, y + half, color=colour, alpha=0.15, linewidth=0)


def _draw_rewards(axes: Any, plan: _Plan) -> None:
    _prepare(axes, "Rewards", plan, note="line: training, smoothed, 95 % band   marker: held-out ± standard error")
    for run in plan.runs:
        x = run.steps
        for index, name in enumerate(plan.rewards):
            colour = plan.colour(index)
            raw = run.series("rewards", name, "mean")
            mean, half = _smooth(raw)
            if plan.single and len(plan.rewards) <= 6:
                axes.plot(x, raw, color=colour, linewidth=0.6, alpha=0.35)
            if len(plan.runs) * len(plan.rewards) <= 6:
                _band(axes, x, mean, half, colour)
            _line(axes, x, mean, color=colour, linestyle=run.line)
            held_out = run.series("eval", "rewards", name, "mean")
            if np.isfinite(held_out).any():
                error = np.nan_to_num(run.series("eval", "rewards", name, "standard_error"))
                axes.errorbar(
                    x, held_out, yerr=error, fmt=plan.marker(index), color=colour, markersize=6.5,
                    markeredgecolor="white", markeredgewidth=0.8, elinewidth=1.2, capsize=2.5, zorder=5,
                )  # fmt: skip
    low, high = axes.get_ylim()
    inside = axes.has_data() and low > -0.3 and high < 1.3
    _finish(axes, bottom=-0.02 if inside and low > -0.06 else None, top=1.02 if inside else None)
    if inside and high < 1.1:
        axes.set_ylim(top=1.03)


def _draw_key(axes: Any, plan: _Plan) -> None:
    """A table instead of a legend: colour and marker, name, and start -> end for each run."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    rows = len(plan.rewards) + (0 if plan.single else len(plan.runs) + 2)
    pitch = min(0.085, 0.94 / max(rows, 1))
    size = 10.5 if pitch > 0.06 else 8.5
    width = 0.57 / len(plan.runs)
    y = 1.0 - pitch / 2
    text = {"va": "center", "color": INK, "size": size, "fontfamily": plan.fonts}
    if not plan.single:
        for number, run in enumerate(plan.runs):
            centre = 0.43 + width * (number + 0.5)
            axes.plot([centre - 0.035, centre + 0.035], [y, y], color=INK, linestyle=run.line)
        y -= pitch
    for index, (name, label) in enumerate(zip(plan.rewards, plan.labels, strict=True)):
        colour = plan.colour(index)
        axes.plot([0.01, 0.06], [y, y], color=colour, linewidth=2)
        axes.plot([0.035], [y], plan.marker(index), color=colour, markersize=6.5, markeredgecolor="white")
        axes.text(0.08, y, label, **text)
        for number, run in enumerate(plan.runs):
            start, end, held_out = _change(run, name)
            words = "–" if np.isnan(end) else f"{start:.2f} → {end:.2f}"
            words += "" if held_out or np.isnan(end) or len(plan.runs) > 2 else " (training)"
            small = {**text, "size": size if len(plan.runs) < 4 else 0.75 * size}
            axes.text(0.43 + width * (number + 0.5), y, words, ha="center", **small)
        y -= pitch
    if not plan.single:
        y -= pitch / 2
        for run in plan.runs:
            axes.plot([0.01, 0.08], [y, y], color=INK, linestyle=run.line)
            axes.text(0.1, y, run.label, **text)
            y -= pitch


def _draw_weights(axes: Any, plan: _Plan) -> None:
    _prepare(axes, "Weights", plan, note="dashed: your preferences" if plan.single else "")
    for run in plan.runs:
        for index, name in enumerate(plan.rewards):
            colour = plan.colour(index)
            if plan.single:
                wish = run.series("preferences", name)
                _line(axes, run.steps, wish, color=colour, linestyle="--", linewidth=1.0, alpha=0.8)
            _line(axes, run.steps, run.series("weights", name), color=colour, linestyle=run.line)
    _finish(axes, bottom=0.0)


def _draw_conflicts(figure: Any, place: Any, plan: _Plan) -> None:
    """One map per run; red: the two rewards pull the policy apart, blue: together."""
    count = len(plan.rewards)
    maps = place.subgridspec(1, len(plan.runs), wspace=0.08)
    image = None
    panels = []
    for number, run in enumerate(plan.runs):
        axes = figure.add_subplot(maps[number])
        panels.append(axes)
        _blank_map(axes, plan, first=number == 0)
        matrix = _cosines(run, count) if count else None
        if matrix is None:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, color=FAINT, ha="center", size=10)
        else:
            image = _fill_map(axes, matrix, plan)
        if not plan.single:
            axes.plot([0.3, 0.7], [1.06, 1.06], transform=axes.transAxes, color=INK, linestyle=run.line, clip_on=False)
    panels[0].text(
        0.0, 1.06 if plan.single else 1.16, "Conflicts between rewards", transform=panels[0].transAxes, size=11, weight="bold", color=INK, va="bottom"
    )
    if image is not None:
        bar = figure.colorbar(image, ax=panels, fraction=0.035, pad=0.02, ticks=[-1, 0, 1])
        bar.ax.set_yticklabels(["against", "neutral", "together"], size=8.5, color=INK)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)


def _blank_map(axes: Any, plan: _Plan, *, first: bool) -> None:
    count = len(plan.rewards)
    size = 9 if count <= 8 else 7
    axes.set_facecolor("white")
    axes.set_xticks(range(count), plan.labels, rotation=40, ha="right", size=size, color=INK, fontfamily=plan.fonts)
    axes.set_yticks(range(count), plan.labels if first else [""] * count, size=size, color=INK, fontfamily=plan.fonts)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _fill_map(axes: Any, matrix: np.ndarray, plan: _Plan) -> Any:
    count = len(matrix)
    shown = matrix.copy()
    np.fill_diagonal(shown, np.nan)  # A reward always agrees with itself; that is no news.
    axes.add_patch(_grey(count))
    image = axes.imshow(shown, cmap="RdBu", vmin=-1.0, vmax=1.0)
    cells = count * len(plan.runs)
    size = 10 if cells <= 6 else 8 if cells <= 10 else 6
    for row in range(count):
        for column in range(count):
            value = shown[row, column]
            if np.isfinite(value) and cells <= 20:
                colour = "white" if abs(value) > 0.6 else INK
                axes.text(column, row, f"{value:+.2f}", ha="center", va="center", size=size, color=colour)
    return image


def _grey(count: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((-0.5, -0.5), count, count, facecolor="#eeeeee", zorder=0)


def _draw_length(axes: Any, plan: _Plan) -> None:
    _prepare(axes, "Length", plan, unit="tokens", note="mean ± std" if plan.single else "mean")
    for run in plan.runs:
        mean, spread = run.series("length", "mean"), run.series("length", "std")
        if plan.single:
            _band(axes, run.steps, mean, spread, INK)
        _line(axes, run.steps, mean, color=INK, linestyle=run.line)
    _finish(axes, bottom=0.0)


def _draw_dispersion(axes: Any, plan: _Plan) -> None:
    _prepare(axes, "Dispersion", plan, unit="share of rewards that steer")
    for run in plan.runs:
        floor = run.series("dispersion_floor")
        _line(axes, run.steps, floor, color=COLOURS[1], linewidth=1.2, linestyle="--")
        values = run.series("dispersion")
        _line(axes, run.steps, values, color=INK, linestyle=run.line)
        missed = np.array([record.get("dispersion_reached") is False for record in run.records], dtype=bool)
        axes.plot(run.steps[missed], values[missed], "x", color=COLOURS[1], markersize=4)
    _finish(axes, bottom=0.0, top=1.02)


def _draw_single(
    axes: Any, plan: _Plan, title: str, key: str, *, unit: str, scale: float = 1.0, top: float | None = None
) -> None:
    _prepare(axes, title, plan, unit=unit)
    for run in plan.runs:
        _line(axes, run.steps, scale * run.series(key), color=INK, linestyle=run.line, linewidth=1.4)
    _finish(axes, bottom=0.0, top=top)
