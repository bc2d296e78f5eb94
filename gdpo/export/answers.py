"""The rewards of a file's answers beside those of the policy's: as long as in the training, and to the same prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from ..llamacpp.generate import generate
from ..progress import Progress
from ..rewards.reward import Reward
from ..rewards.scoring import score_rewards
from .material import Material


def compare_rewards(
    path: Path, material: Material, rewards: Sequence[Reward], progress: Progress
) -> dict[str, dict[str, float | None]]:
    """Return the mean of each reward over the policy's and the file's greedy answers to the same prompts."""
    answers = generate(
        path,
        material.prompts,
        max_new_tokens=material.new_tokens,
        temperature=0.0,
        seed=0,
        progress=progress,
    )
    means = {}
    for column, completions in (("policy", material.answers), ("gguf", answers)):
        scores = score_rewards(rewards, material.prompts, completions, progress.poll)  # (K, N)
        means[column] = [float(row) for row in torch.nanmean(scores, 1)]
    return {
        reward.name: {column: _plain(values[k]) for column, values in means.items()}
        for k, reward in enumerate(rewards)
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
