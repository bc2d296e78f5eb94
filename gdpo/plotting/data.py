"""What the convergence figure shows, computed from history records: no drawing here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runs.diagnosis import telling_cosines
from ..runs.record import StepRecord

Records = Sequence[StepRecord]

# Colours that people with any common colour blindness can tell apart: Okabe and Ito's, without the
# yellow that vanishes on white, then Tol's "muted". With the markers, 16 rewards stay distinct.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#332288",
    "#882255", "#44AA99", "#999933", "#CC6677", "#117733", "#88CCEE", "#AA4499", "#DDCC77",
)  # fmt: skip
MARKERS = "osD^vP*Xp<>hd8H."
# One per run, so also the largest number of runs in a figure.
LINES = ("-", "--", ":", "-.")
# Families to try for names beyond DejaVu Sans, which comes with matplotlib but knows no Japanese.
MORE_FONTS = (
    "Noto Sans CJK JP", "Noto Sans JP", "Source Han Sans", "IPAexGothic", "IPAGothic",
    "TakaoGothic", "VL Gothic", "Yu Gothic", "Meiryo", "MS Gothic", "Hiragino Sans",
    "Hiragino Maru Gothic Pro", "Microsoft YaHei", "SimHei", "PingFang SC", "WenQuanYi Zen Hei",
    "Droid Sans Fallback", "Malgun Gothic", "Apple SD Gothic Neo", "Arial Unicode MS",
)  # fmt: skip
_Z95 = 1.96


@dataclass(frozen=True)
class PlottedRun:
    """One run: its records, what it is called and how its lines look."""

    records: Records
    label: str
    line: Any

    @property
    def steps(self) -> np.ndarray:
        """Return the step of each record."""
        return self.series("step")

    def series(self, *keys: str) -> np.ndarray:
        """Return the number at `keys` of each record; NaN where a record has none."""
        return np.array([_number(record, keys) for record in self.records], dtype=float)

    def change(self, reward: str) -> tuple[float, ...]:
        """First and last held-out value of a reward; of its training if never evaluated.

        Only one value, or none, where there are no two.
        """
        values = self.series("eval", "rewards", reward, "mean")
        if not np.isfinite(values).any():
            values, _ = smooth(self.series("rewards", reward, "mean"))
        known = values[np.isfinite(values)]
        return tuple(known[[0, -1]] if len(known) > 1 else known)

    def cosines(self, count: int) -> np.ndarray | None:
        """Return the mean cosine matrix (K, K) over the last quarter of the steps that have a telling one."""
        found = [_matrix(telling_cosines(record), count) for record in self.records]
        found = [matrix for matrix in found if matrix is not None]
        if not found:
            return None
        last = np.array(found[-max(1, len(found) // 4) :])
        known = np.isfinite(last).sum(axis=0)
        total = np.where(np.isfinite(last), last, 0.0).sum(axis=0)
        return np.where(known > 0, total / np.maximum(known, 1), np.nan)


@dataclass(frozen=True)
class FigureContent:
    """A figure's content: colours and markers tell rewards apart, line styles tell runs apart."""

    runs: tuple[PlottedRun, ...]
    rewards: tuple[str, ...]
    labels: tuple[str, ...]
    fonts: list[str]

    @classmethod
    def of(cls, runs: Mapping[str, Records]) -> FigureContent:
        """Return the content for runs by name; rewards in the order in which they first occur."""
        fonts = _fonts()
        rewards: dict[str, None] = {}
        for records in runs.values():
            for record in records:
                for source in (record, record.get("eval") or {}):
                    rewards.update(dict.fromkeys(source.get("rewards") or {}))
        return cls(
            runs=tuple(
                PlottedRun(records, _readable(name, f"run {n + 1}", 44, fonts), LINES[n])
                for n, (name, records) in enumerate(runs.items())
            ),
            rewards=tuple(rewards),
            labels=tuple(
                _readable(name, f"reward {n + 1}", 22, fonts) for n, name in enumerate(rewards)
            ),
            fonts=list(fonts),
        )

    @property
    def single(self) -> bool:
        """Tell whether there is one run only; then there is room for more detail."""
        return len(self.runs) == 1

    @property
    def last_step(self) -> float:
        """Return the largest step of all runs."""
        return max((float(run.steps.max()) for run in self.runs if len(run.records)), default=0.0)

    @property
    def evaluated(self) -> bool:
        """Tell whether any reward was ever measured on held-out prompts."""
        return any(record.get("eval") for run in self.runs for record in run.records)

    def colour(self, reward: int) -> str:
        """Colour of a reward, by its place."""
        return COLOURS[reward % len(COLOURS)]

    def marker(self, reward: int) -> str:
        """Marker of a reward, by its place."""
        return MARKERS[reward % len(MARKERS)]


def smooth(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def _number(record: Any, keys: tuple[str, ...]) -> float:
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return _finite(record)


def _finite(value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and np.isfinite(value) else np.nan


def _matrix(rows: Any, count: int) -> list[list[float]] | None:
    """Return a (count, count) matrix of numbers and NaN, or None where a record has none of that size."""
    if not rows or len(rows) != count or any(len(row) != count for row in rows):
        return None
    return [[_finite(cell) for cell in row] for row in rows]


def _fonts() -> dict[str, Any]:
    """Installed families for names, in order, with the characters that each one knows."""
    from matplotlib import font_manager

    files = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    families = [name for name in ("DejaVu Sans", *MORE_FONTS) if name in files]
    return {name: font_manager.get_font(files[name]).get_charmap() for name in families}


def _readable(name: str, fallback: str, limit: int, fonts: Mapping[str, Any]) -> str:
    """`name` as matplotlib may show it; `fallback` if no installed font has its characters."""
    if not all(any(ord(letter) in known for known in fonts.values()) for letter in name):
        return fallback
    cut = name if len(name) <= limit else name[: limit - 1] + "…"
    return cut.replace("$", r"\$")  # A pair of dollar signs would start a formula.
