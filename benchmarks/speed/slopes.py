"""Computes what the speed benchmark says from what it measured: slopes, and ratios to TRL."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

Rows = Sequence[dict[str, Any]]
PARTS = ("sampling_s", "scoring_s", "updating_s")


def exponents(rows: Rows) -> dict[str, dict[str, float]]:
    """For each factor and part, b of seconds ~ factor^b, by least squares on the logarithms."""
    factors = sorted({row["factor"] for row in rows})
    return {
        factor: {
            part: round(_slope([(r["value"], r[part]) for r in rows if r["factor"] == factor]), 2)
            for part in PARTS
        }
        for factor in factors
    }


def _slope(points: Sequence[tuple[float, float]]) -> float:
    logs = [(math.log(x), math.log(y)) for x, y in points]
    middle = [sum(values) / len(logs) for values in zip(*logs, strict=True)]
    spread = sum((x - middle[0]) ** 2 for x, _ in logs)
    return sum((x - middle[0]) * (y - middle[1]) for x, y in logs) / spread if spread else math.nan


def bytes_per_logit(rows: Rows) -> dict[str, dict[str, float]]:
    """For each way and T, the bytes of peak for each further logit, from the two largest vocabularies.

    An update that keeps all logits and their gradient in fp32 needs 8 and more; one whose memory does not
    grow with T V needs 0.
    """
    found: dict[str, dict[str, float]] = {}
    for way in sorted({row["way"] for row in rows}):
        for tokens in sorted({row["completion_tokens"] for row in rows}):
            chosen = [r for r in rows if (r["way"], r["completion_tokens"]) == (way, tokens)]
            ends = sorted(chosen, key=lambda row: row["vocabulary"])[-2:]
            if len(ends) == 2:
                mb, logits = (ends[1][k] - ends[0][k] for k in ("peak_mb", "all_logits_mb"))
                found.setdefault(way, {})[str(tokens)] = round(4 * mb / logits, 2)
    return found


def step_row(
    method: str, size: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Medians of our runs and TRL's, and of the ratios round by round."""
    pairs = list(zip(ours, theirs, strict=True))

    def median(runs: list[dict[str, Any]], key: str) -> float:
        return statistics.median(run[key] for run in runs)

    def ratio(key: str) -> float:
        return round(statistics.median(our[key] / their[key] for our, their in pairs), 3)

    seconds = median(ours, "step_seconds")
    return {
        "model": "starter",
        "method": method,
        "size": size,
        "time_ratio_to_trl": ratio("step_seconds"),
        "memory_ratio_to_trl": ratio("memory_mb"),
        "step_seconds": round(seconds, 3),
        "trl_step_seconds": round(median(theirs, "step_seconds"), 3),
        "memory_mb": round(median(ours, "memory_mb"), 1),
        "trl_memory_mb": round(median(theirs, "memory_mb"), 1),
        "share_of_update": round(median(ours, "update_seconds") / seconds, 3),
    }
