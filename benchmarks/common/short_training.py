"""Trains the starter model for a few steps with this pack, in the settings that TRL's trainer gets as well."""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.common.peaks import peak_mb, reset_peak, resident_mb
from gdpo.progress import Progress
from gdpo.rewards import AnswerMatch, Conciseness, Politeness, Reward

# Completions and their longest, and how many go through the update together.
SIZES = {
    "32 x 64 by 16": {
        "prompts_per_step": 4,
        "group_size": 8,
        "max_new_tokens": 64,
        "micro_batch": 16,
    },
    "64 x 48 at once": {
        "prompts_per_step": 8,
        "group_size": 8,
        "max_new_tokens": 48,
        "micro_batch": 64,
    },
}
SETTINGS = {
    "optimizer": "adamw",
    "learning_rate": 7e-4,
    "lora_rank": 16,
    "lora_alpha": 32,
    "warmup_steps": 5,
    "max_grad_norm": 1.0,
}
SEED = 0
# The first step of each training warms up.
SKIPPED = 1


def rewards() -> list[Reward]:
    """Return the rewards of the quick start."""
    return [
        Reward("politeness", Politeness()),
        Reward("conciseness", Conciseness(longest=20, tolerance=30)),
        Reward("solves the problem", AnswerMatch(field="reference", mode="contains")),
    ]


class Notes(Progress):
    """Notes of each step: when it ended, its parts' seconds, its mean rewards and lengths."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.parts: list[dict[str, float]] = []
        self.lengths: list[float] = []
        self.curves: dict[str, list[float]] = {}

    def record(self, record: dict) -> None:
        """Note a step; evaluations are left out."""
        if "rewards" not in record:
            return
        self.ends.append(time.perf_counter())
        self.parts.append(record["seconds"])
        self.lengths.append(record["length"]["mean"])
        for name, found in record["rewards"].items():
            self.curves.setdefault(name, []).append(found["mean"])


def our_training(method: str, steps: int, device: str, size: dict[str, int]) -> dict[str, Any]:
    """Train with this pack; seconds, peak memory in MB, reward curves and lengths."""
    from gdpo.objective.objective import combine_rewards
    from gdpo.policies.loading import load_policy
    from gdpo.prompts import load_prompts
    from gdpo.settings import TrainSettings
    from gdpo.starter import MODEL_DIR, TRAIN_PROMPTS
    from gdpo.training.trainer import train

    settings = TrainSettings(
        steps=steps, eval_every=steps, checkpoint_every=steps, rng_seed=SEED, **SETTINGS, **size
    )
    prompts, notes = load_prompts(TRAIN_PROMPTS), Notes()
    baseline = resident_mb(device)
    reset_peak(device)
    policy = load_policy(MODEL_DIR, precision="fp32", device=device)
    objective = combine_rewards(rewards(), method=method)
    with tempfile.TemporaryDirectory() as folder:
        train(policy, prompts, objective, settings, Path(folder) / "run", progress=notes)
        peak = peak_mb(device)[0] - baseline
    update = sorted(part["update"] for part in notes.parts[SKIPPED:])
    return {
        **summary(notes.ends, notes.curves, notes.lengths, peak),
        "update_seconds": update[len(update) // 2],
    }


def summary(
    ends: list[float], curves: dict[str, list[float]], lengths: list[float], peak: float
) -> dict[str, Any]:
    """Summarise a training.

    Args:
        ends: Time at which each step ended, in seconds.
        curves: Mean of each reward, step by step.
        lengths: Mean length of the completions, step by step, in tokens.
        peak: Peak memory in MB.
    """
    steps = sorted(b - a for a, b in pairwise(ends))
    return {
        "step_seconds": round(steps[len(steps) // 2], 4),
        "memory_mb": round(peak, 1),
        "rewards": {name: [round(v, 4) for v in values] for name, values in curves.items()},
        "lengths": [round(v, 1) for v in lengths],
    }
