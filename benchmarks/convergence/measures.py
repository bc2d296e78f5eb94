"""The measures: plain numbers in, plain numbers out.

A run is a list of evaluations, each a list of K reward means in shares of their range, 1 being the top. The
targets are fixed before any run: 90 % of the way from the start to the ideal replies' rewards.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

Curve = Sequence[Sequence[float]]

WAY = 0.9
HELD = 3
# A run's end is the mean of this many evaluations.
LAST = 3
# Below the start counts what is lower by more than this many standard errors.
_ERRORS = 2.0
# The path is compared with the distance covered, or with this share of the range where that is small.
_MIN_DISTANCE = 0.1
_Z95 = 1.959963984540054


def targets(start: Sequence[float], ideal: Sequence[float]) -> list[float]:
    """90 % of the way from the start to the ideal."""
    return [s + WAY * (i - s) for s, i in zip(start, ideal, strict=True)]


def converged_at(steps: Sequence[int], curve: Curve, wanted: Sequence[float]) -> int | None:
    """Return the step of the first of three evaluations in a row that hold every target, or None."""
    good = [all(x >= t for x, t in zip(row, wanted, strict=True)) for row in curve]
    for i in range(len(good) - HELD + 1):
        if all(good[i : i + HELD]):
            return steps[i]
    return None


def end(curve: Curve) -> list[float]:
    """Return the mean of each reward over the last evaluations."""
    return [sum(values) / LAST for values in zip(*curve[-LAST:], strict=True)]


def progress(curve: Curve, ideal: Sequence[float]) -> list[float]:
    """Tell how much of the way from start to ideal each reward has come at the end; 1 is all of it."""
    return [(e - s) / (i - s) for e, s, i in zip(end(curve), curve[0], ideal, strict=True)]


def hypervolume(curve: Curve, ideal: Sequence[float]) -> float:
    """Volume between the start and the end, in units of the volume between the start and the ideal."""
    return math.prod(min(1.0, max(0.0, p)) for p in progress(curve, ideal))


def below_start(curve: Curve, errors: Curve) -> bool:
    """Tell whether a reward ends below its start by more than two standard errors of the difference."""
    first, last = errors
    return any(
        e < s - _ERRORS * math.hypot(a, b)
        for e, s, a, b in zip(end(curve), curve[0], first, last, strict=True)
    )


def excess_path(curve: Curve, noise: float = 0.0) -> float:
    """Oscillation: how much longer the path is than the way, mean over rewards, on the smoothed curve.

    O = mean_k (sum_t |x_k(t+1) - x_k(t)| - noise) / |x_k(T) - x_k(0)| - 1, at least 0; x is the mean of
    three neighbouring evaluations. `noise` is the mean path per step of a policy that does not change.
    """
    found = []
    for values in _smoothed(curve):
        steps = [abs(b - a) for a, b in itertools.pairwise(values)]
        found.append(max(0.0, (sum(steps) - noise * len(steps)) / _way(values) - 1))
    return sum(found) / len(found)


def _smoothed(curve: Curve) -> list[list[float]]:
    """Return each reward's values, as means of three neighbours."""
    parts = [curve[max(0, t - 1) : t + 2] for t in range(len(curve))]
    rows = [[sum(v) / len(v) for v in zip(*part, strict=True)] for part in parts]
    return [list(values) for values in zip(*rows, strict=True)]


def _way(values: Sequence[float]) -> float:
    return max(abs(values[-1] - values[0]), _MIN_DISTANCE)


def sampling_path(record: dict[str, Any]) -> float:
    """Return what the sampling error of the evaluations, as large as at the end, would add to the excess path at most.

    Means of three neighbours share two of them, so that independent errors of size e move the smoothed curve by
    2 e / (3 sqrt(pi)) per evaluation on average. Evaluations share their random draws: their errors are not quite
    independent, and the true share is smaller.
    """
    curve, errors = _smoothed(record["means"]), record["errors"][-1]
    found = [
        2 * error / (3 * math.sqrt(math.pi)) * (len(values) - 1) / _way(values)
        for values, error in zip(curve, errors, strict=True)
    ]
    return sum(found) / len(found)


def wilson(successes: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927)."""
    if not count:
        return 0.0, 1.0
    share, z2 = successes / count, _Z95**2
    middle = share + z2 / (2 * count)
    half = _Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return (middle - half) / (1 + z2 / count), (middle + half) / (1 + z2 / count)


def kaplan_meier(times: Sequence[int | None], limit: int) -> list[tuple[int, float]]:
    """Return the share of runs not yet converged after each step at which one did; None is a run that never did.

    All runs have the same limit, so that censoring comes last (Kaplan and Meier, 1958).
    """
    alive, curve = 1.0, [(0, 1.0)]
    known = sorted(t for t in times if t is not None)
    for step in sorted(set(known)):
        at_risk = len(times) - sum(t < step for t in known)
        alive *= 1 - known.count(step) / at_risk
        curve.append((step, alive))
    return [*curve, (limit, alive)]


def median_steps(times: Sequence[int | None], limit: int) -> int | None:
    """Return the first step by which half of the runs have converged; None if fewer did."""
    return next((step for step, share in kaplan_meier(times, limit) if share <= 0.5), None)


def restricted_mean(times: Sequence[int | None], limit: int) -> float:
    """Return the mean number of steps to convergence, counting a run that never did as the limit."""
    return sum(limit if t is None else t for t in times) / len(times)


def time_of(record: dict[str, Any], ideals: dict[str, list[float]]) -> int | None:
    """Return the step at which a run converged, or None."""
    wanted = targets(record["means"][0], ideals[record["task"]])
    return converged_at(record["steps"], record["means"], wanted)


def steps_to_convergence(record: dict[str, Any], ideals: dict[str, list[float]]) -> int:
    """Return the step at which a run converged; its last one if it never did."""
    found = time_of(record, ideals)
    return record["steps"][-1] if found is None else found


def describe(
    records: Sequence[dict[str, Any]], ideals: dict[str, list[float]], noise: float
) -> dict[str, Any]:
    """Return all measures over the runs of one arm.

    Args:
        records: As `runs.run` returns them, with all rewards of their task.
        ideals: Rewards of the ideal replies, for each task.
        noise: Mean path per step of a frozen policy.
    """
    times = [time_of(r, ideals) for r in records]
    count, done = len(records), sum(t is not None for t in times)
    limit = max(r["steps"][-1] for r in records)
    mean = _mean_over(records)
    return {
        "runs": count,
        "converged": round(done / count, 4),
        "interval": [round(x, 4) for x in wilson(done, count)],
        "median_steps": median_steps(times, limit),
        "restricted_mean_steps": round(restricted_mean(times, limit), 1),
        "oscillation": mean(lambda r: excess_path(r["means"], noise)),
        "sampling_path": mean(sampling_path),
        "below_start": mean(lambda r: below_start(r["means"], r["errors"])),
        "length_std": mean(lambda r: r["length_std"][-1]),
        "worst_reward": mean(lambda r: min(progress(r["means"], ideals[r["task"]]))),
        "hypervolume": mean(lambda r: hypervolume(r["means"], ideals[r["task"]])),
    }


def _mean_over(records: Sequence[dict[str, Any]]) -> Any:
    return lambda measure: round(sum(float(measure(r)) for r in records) / len(records), 4)
