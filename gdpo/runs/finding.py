"""One thing that a run's history says in words, and what the checks that find such things share."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .record import StepRecord

REACHED = 0.1  # of a reward's way to its target; some of the last steps' prompts may be harder


@dataclass(frozen=True)
class Finding:
    """One thing that looks wrong: a stable name of the check, a sentence with a remedy, and the rewards it is about."""

    check: str
    text: str
    about: tuple[str, ...] = ()


def mean_of(records: Sequence[StepRecord], *path: str) -> float | None:
    """Return the mean of a nested value over records; None where it is undefined."""
    values = []
    for record in records:
        value: Any = record
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            values.append(value)
    return statistics.fmean(values) if values else None


def at_target(deficit: float | None) -> bool:
    """Tell whether a reward with this deficit is about at its target; one of unknown deficit is not."""
    return deficit is not None and deficit <= REACHED
