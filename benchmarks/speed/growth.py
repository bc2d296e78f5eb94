"""Measures how the parts of a step grow with G, K and T.

    python -m benchmarks.speed.growth growth --device cpu --rounds 1

One factor at a time changes around a base, in one process, every cell once a round; medians over the rounds. All
completions have full length.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from benchmarks.common.batches import make_batch, make_optimizer
from benchmarks.common.children import answer
from benchmarks.common.models import never_ending, starter
from benchmarks.common.updates import seconds_of, update
from gdpo.prompts import load_prompts
from gdpo.rewards import SCORERS, Reward, score_rewards
from gdpo.rollouts import sample
from gdpo.settings import TrainSettings
from gdpo.starter import TRAIN_PROMPTS

PROMPTS, MICRO_BATCH = 4, 16
KINDS = ("Conciseness", "Politeness", "Repetition")


@dataclass(frozen=True)
class Point:
    """G completions a prompt, K rewards and T tokens a completion."""

    G: int = 8
    K: int = 3
    T: int = 48


BASE = Point()
FACTORS = {"G": (4, 8, 16, 32), "K": (1, 3, 10, 20), "T": (24, 48, 96, 192)}


def points() -> dict[Point, list[str]]:
    """List all points to measure, each with the factors whose series it is in."""
    found: dict[Point, list[str]] = {}
    for factor, values in FACTORS.items():
        for value in values:
            found.setdefault(replace(BASE, **{factor: value}), []).append(factor)
    return found


def growth(device: str, rounds: int) -> dict[str, Any]:
    """Measure all points.

    Returns:
        `base`, and `rows`: `{"factor", "value", "sampling_s", "scoring_s", "updating_s"}` each.
    """
    found: dict[Point, list[dict[str, float]]] = {point: [] for point in points()}
    with starter("fp32", device) as (model, tokenizer):
        never_ending(tokenizer, model)
        optimizer = make_optimizer(model)
        for number in range(rounds + 1):
            for point, runs in found.items():
                parts = _parts(model, tokenizer, optimizer, point, device)
                if number:  # the first round warms up
                    runs.append(parts)
    rows = [
        {"factor": factor, "value": getattr(point, factor), **_medians(found[point])}
        for point, factors in points().items()
        for factor in factors
    ]
    return {"base": asdict(BASE), "rows": sorted(rows, key=lambda r: (r["factor"], r["value"]))}


def _parts(
    model: Any, tokenizer: Any, optimizer: Any, point: Point, device: str
) -> dict[str, float]:
    """Measure the seconds of one step's parts."""
    prompts = load_prompts(TRAIN_PROMPTS)[:PROMPTS]
    settings = TrainSettings(optimizer="adamw", max_new_tokens=point.T, micro_batch=MICRO_BATCH)
    scored = [Reward(f"reward {k}", SCORERS[KINDS[k % len(KINDS)]]()) for k in range(point.K)]
    begin = time.perf_counter()
    rollouts = sample(model, tokenizer, prompts, group_size=point.G, max_new_tokens=point.T, seed=0)
    sampled = time.perf_counter()
    rows = [prompt for prompt in prompts for _ in range(point.G)]
    score_rewards(scored, rows, rollouts.completions, lambda: None)
    done = time.perf_counter()
    batch = make_batch(model, optimizer, rollouts, point.K, point.G, settings)
    return {
        "sampling_s": sampled - begin,
        "scoring_s": done - sampled,
        "updating_s": seconds_of(partial(update, "one_pass", batch), device),
    }


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {part: round(statistics.median(run[part] for run in runs), 5) for part in runs[0]}


if __name__ == "__main__":
    answer(growth)
