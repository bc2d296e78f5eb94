"""Measures which share of the demo's steps each phase takes.

    python -m benchmarks.speed.phases phases --device cpu --steps 5

A training with the demo's settings is watched from its first evaluation to its second.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common.children import answer
from benchmarks.common.short_training import rewards
from gdpo.objective.objective import combine_rewards
from gdpo.policies.loading import load_policy
from gdpo.progress import Progress
from gdpo.prompts import load_prompts
from gdpo.settings import TrainSettings
from gdpo.starter import HELDOUT_PROMPTS, MODEL_DIR, TRAIN_PROMPTS
from gdpo.training.trainer import train

# Settings of the quick start's training.
DEMO = {
    "prompts_per_step": 8,
    "group_size": 8,
    "max_new_tokens": 72,
    "optimizer": "adamw",
    "learning_rate": 7e-4,
    "micro_batch": 32,
}


class Diary(Progress):
    """Notes when evaluations began and ended, and the seconds of each step's parts."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.ended: list[float] = []
        self.steps: list[dict[str, float]] = []
        self._evaluating = False

    def phase(self, name: str, done: int, total: int) -> None:
        """Note the beginning of an evaluation, which is the first word of it."""
        if name == "evaluating" and not self._evaluating:
            self.begun.append(time.perf_counter())
        self._evaluating = name == "evaluating"

    def record(self, record: dict) -> None:
        """Note the end of a step or of an evaluation."""
        if "rewards" in record:
            self.steps.append(record["seconds"])
        else:
            self.ended.append(time.perf_counter())


def phases(device: str, steps: int) -> dict[str, Any]:
    """Train, and measure the seconds of a step and each phase's share; the steps share one evaluation and one checkpoint."""
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
    """Summarise the time from the first evaluation's end to the second one's."""
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


if __name__ == "__main__":
    answer(phases)
