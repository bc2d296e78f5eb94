"""Two arms on the same cases, run by run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from .measures import excess_path, time_of


def compare(
    ours: Sequence[dict[str, Any]],
    theirs: Sequence[dict[str, Any]],
    ideals: dict[str, list[float]],
    noise: float,
) -> dict[str, Any]:
    """Return two arms on the same tasks, preferences and seeds, run by run.

    Returns:
        How often only one of them converged; the ratio of the mean steps to convergence (a run that never did counts
        as the limit) and of the mean oscillation, each with the 95 % interval of a bootstrap over the pairs.
    """
    pairs = list(zip(ours, theirs, strict=True))
    limit = max(r["steps"][-1] for r in ours)
    times = [tuple(time_of(r, ideals) for r in pair) for pair in pairs]
    swings = [tuple(excess_path(r["means"], noise) for r in pair) for pair in pairs]
    until = [tuple(limit if t is None else t for t in pair) for pair in times]
    return {
        "pairs": len(pairs),
        "only_first": sum(a is not None and b is None for a, b in times),
        "only_second": sum(a is None and b is not None for a, b in times),
        "steps_ratio": ratio_of_means(until),
        "oscillation_ratio": ratio_of_means(swings),
    }


def ratio_of_means(pairs: Sequence[tuple[float, ...]], draws: int = 2000) -> list[float]:
    """Return the mean of the first over mean of the second, with the ends of its bootstrap's 95 % interval."""
    rng, count = random.Random(0), len(pairs)

    def ratio(chosen: Sequence[tuple[float, ...]]) -> float:
        return sum(a for a, _ in chosen) / max(1e-9, sum(b for _, b in chosen))

    found = sorted(ratio(rng.choices(pairs, k=count)) for _ in range(draws))
    ends = (found[round(0.025 * draws)], found[round(0.975 * draws) - 1])
    return [round(x, 4) for x in (ratio(pairs), *ends)]
