"""Measures the peaks of a short training's phases in a process of its own.

    python -m benchmarks.memory.measure peaks --folder MODEL --tiny TINY_MODEL --device cpu --cell '[...]'

A tiny model is trained in the same process first, so that all libraries are there before the baseline is taken.
"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common.children import answer
from benchmarks.common.peaks import forget_peak, peak_mb, reset_peak, resident_mb
from benchmarks.memory.cells import Cell
from gdpo.progress import Progress
from gdpo.prompts import Prompt

KINDS = ("Conciseness", "Politeness", "Repetition")
PROMPTS = 64


class Watch(Progress):
    """Keeps the peak of each of the trainer's phases, in MB, if a device is named."""

    def __init__(self, device: str | None) -> None:
        self.peaks: dict[str, float] = {}
        self._device, self._current = device, "start"

    def phase(self, name: str, done: int, total: int) -> None:
        """Close the phase that was running, and begin the next."""
        if self._device:
            peak = peak_mb(self._device)[0]
            self.peaks[self._current] = max(self.peaks.get(self._current, 0.0), peak)
            forget_peak(self._device)
        self._current = name


def peaks(folder: Path, tiny: Path, device: str, cell: list) -> dict[str, float]:
    """Peaks of two steps' phases, in MB, and the baseline of the loaded libraries that they contain."""
    from gdpo.policies.loading import load_policy

    chosen = Cell(*cell)
    small = chosen._replace(prompts_per_step=2, group_size=2, max_new_tokens=4, micro_batch=4)
    _train(load_policy(tiny, precision=chosen.precision, device=device), small)
    gc.collect()
    reset_peak(device)
    baseline = resident_mb(device)
    policy = load_policy(folder, precision=chosen.precision, device=device)
    loading = peak_mb(device)[0]
    reset_peak(device)
    return {"baseline": baseline, "loading": loading, **_train(policy, chosen, device)}


def _train(policy: Any, cell: Cell, device: str | None = None) -> dict[str, float]:
    """Train; the peak of each phase, if a device is named to measure it on."""
    from gdpo.objective.objective import combine_rewards
    from gdpo.rewards import SCORERS, Reward
    from gdpo.training.trainer import train

    objective = combine_rewards([Reward(kind, SCORERS[kind]()) for kind in KINDS])
    watch = Watch(device)
    with tempfile.TemporaryDirectory() as folder:
        train(policy, prompts(), objective, cell.settings, Path(folder) / "r", progress=watch)
    watch.phase("end", 0, 0)
    return watch.peaks


def prompts() -> tuple[Prompt, ...]:
    """Return prompts of the starter's training set."""
    from gdpo.prompts import load_prompts
    from gdpo.starter import TRAIN_PROMPTS

    return load_prompts(TRAIN_PROMPTS)[:PROMPTS]


if __name__ == "__main__":
    answer(peaks)
