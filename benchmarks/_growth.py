"""How the parts of a step grow with G, K and T, and which share of the demo's steps each phase takes.

    python -m benchmarks._growth times growth DEVICE ROUNDS
    python -m benchmarks._growth times phases DEVICE STEPS

Each prints one line of JSON. Growth: one factor at a time around a base, in one process, every cell once a
round, medians over the rounds; all completions have full length. Phases: a training with the demo's settings,
from its first evaluation to its second.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks._cost_child import seconds_of, starter
from benchmarks._trl import rewards
from benchmarks._updates import make_batch, make_optimizer
from gdpo.objective.objective import combine_rewards
from gdpo.policies.loading import load_policy
from gdpo.progress import Progress
from gdpo.prompts import load_prompts
from gdpo.rewards import SCORERS, Reward, score_rewards
from gdpo.rollouts import sample
from gdpo.settings import TrainSettings
from gdpo.starter import HELDOUT_PROMPTS, MODEL_DIR, TRAIN_PROMPTS
from gdpo.training.trainer import train

PROMPTS, MICRO_BATCH = 4, 16
KINDS = ("Conciseness", "Politeness", "Repetition")
# Of the quick start's training.
DEMO = {
    "prompts_per_step": 8,
    "group_size": 8,
    "max_new_tokens": 72,
    "learning_rate": 7e-4,
    "micro_batch": 32,
}


@dataclass(frozen=True)
class Point:
    """G completions a prompt, K rewards and T tokens a completion."""

    G: int = 8
    K: int = 3
    T: int = 48


BASE = Point()
FACTORS = {"G": (4, 8, 16, 32), "K": (1, 3, 10, 20), "T": (24, 48, 96, 192)}


def points() -> dict[Point, list[str]]:
    """All points to measure, each with the factors whose series it is in."""
    found: dict[Point, list[str]] = {}
    for factor, values in FACTORS.items():
        for value in values:
            found.setdefault(replace(BASE, **{factor: value}), []).append(factor)
    return found


def growth(device: str, rounds: int) -> dict[str, Any]:
    """The base, and rows `{"factor", "value", "sampling_s", "scoring_s", "updating_s"}`."""
    found: dict[Point, list[dict[str, float]]] = {point: [] for point in points()}
    with starter("fp32", device) as (model, tokenizer):
        # Nothing ends early: no completion of the starter holds the padding token.
        tokenizer.eos_token = tokenizer.pad_token
        model.generation_config.eos_token_id = None
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
    """Seconds of one step's parts."""
    prompts = load_prompts(TRAIN_PROMPTS)[:PROMPTS]
    settings = TrainSettings(max_new_tokens=point.T, micro_batch=MICRO_BATCH)
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
        "updating_s": seconds_of("one_pass", batch, device),
    }


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {part: round(statistics.median(run[part] for run in runs), 5) for part in runs[0]}


class Diary(Progress):
    """When evaluations began and ended, and the seconds of each step's parts."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.ended: list[float] = []
        self.steps: list[dict[str, float]] = []
        self._evaluating = False

    def phase(self, name: str, done: int, total: int) -> None:
        """The first word of an evaluation is its beginning."""
        if name == "evaluating" and not self._evaluating:
            self.begun.append(time.perf_counter())
        self._evaluating = name == "evaluating"

    def record(self, record: dict) -> None:
        """A step or an evaluation has ended."""
        if "rewards" in record:
            self.steps.append(record["seconds"])
        else:
            self.ended.append(time.perf_counter())


def phases(device: str, steps: int) -> dict[str, Any]:
    """Seconds a step, and the share of each phase; one evaluation and one checkpoint for all the steps."""
    policy, diary = load_policy(MODEL_DIR, precision="fp32", device=device), Diary()
    settings = TrainSettings(steps=steps, eval_every=steps, checkpoint_every=steps, **DEMO)
    with tempfile.TemporaryDirectory() as folder:
        train(
            policy,
            load_prompts(TRAIN_PROMPTS),
            combine_rewards(rewards()),
            settings,
            Path(folder) / "run",
            heldout=load_prompts(HELDOUT_PROMPTS),
            progress=diary,
        )
    return summary(diary)


def summary(diary: Diary) -> dict[str, Any]:
    """What a diary says of the time from its first evaluation's end to its second one's."""
    whole = diary.ended[1] - diary.ended[0]
    seconds = {
        "sampling": sum(step["sample"] for step in diary.steps),
        "scoring": sum(step["score"] for step in diary.steps),
        "updating": sum(step["update"] for step in diary.steps),
        "evaluating": diary.ended[1] - diary.begun[1],
    }
    seconds["other"] = whole - sum(seconds.values())
    return {
        "steps": len(diary.steps),
        "step_seconds": round(whole / len(diary.steps), 4),
        "shares": {name: round(part / whole, 4) for name, part in seconds.items()},
    }


def main(arguments: list[str]) -> None:
    """Measure what the arguments say."""
    _, what, device, count = arguments
    print(json.dumps({"growth": growth, "phases": phases}[what](device, int(count))))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
