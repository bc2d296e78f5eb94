"""Rewards on prompts that were not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..progress import Progress
from ..prompts import Prompt
from ..rewards.reward import Reward
from ..rewards.scorer import Completion
from ..rewards.scoring import score_rewards
from ..rollouts import sample
from ..runs.record import Evaluation, HeldoutFigures

# Completions sampled at a time.
BATCH = 64
# Consecutive evaluations in which every reward holds its target.
_CONVERGED_EVALUATIONS = 3


def complete(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    progress: Progress,
) -> list[Completion]:
    """Return one completion for each prompt, in batches; `progress` learns their number and may stop the work."""
    found: list[Completion] = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        rollouts = sample(
            model,
            tokenizer,
            part,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed + start,
            poll=progress.poll,
        )
        found += rollouts.completions
        progress.phase("evaluating", len(found), len(prompts))
    return found


def evaluate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    rewards: Sequence[Reward],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    progress: Progress | None = None,
) -> Evaluation:
    """Sample one completion for each prompt and score it: the `eval` entry of a run's history."""
    progress = progress or Progress()
    completions = complete(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        progress=progress,
    )
    return summarise(rewards, prompts, completions, progress)


def summarise(
    rewards: Sequence[Reward],
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    progress: Progress | None = None,
) -> Evaluation:
    """Return means with standard errors of each reward, and the lengths, over completions."""
    scores = score_rewards(rewards, prompts, completions, (progress or Progress()).poll)
    lengths = torch.tensor([float(c.tokens) for c in completions])
    return {
        "rewards": {r.name: _mean(row) for r, row in zip(rewards, scores, strict=True)},
        "length": {"mean": float(lengths.mean()), "std": float(lengths.std(unbiased=False))},
        "truncated": sum(c.truncated for c in completions) / len(completions),
    }


def has_converged(evaluations: Sequence[Evaluation], rewards: Sequence[Reward]) -> bool:
    """Tell whether every reward with a preference held its target in the last three evaluations of a run."""
    last = evaluations[-_CONVERGED_EVALUATIONS:]
    means = [
        (found["rewards"][reward.name]["mean"], float(reward.target or 0))
        for found in last
        for reward in rewards
        if reward.preference > 0
    ]
    enough = all(mean is not None and mean >= target for mean, target in means)
    return len(last) == _CONVERGED_EVALUATIONS and enough


def _mean(scores: torch.Tensor) -> HeldoutFigures:
    known = scores[~scores.isnan()]
    if not len(known):
        return {"mean": None, "standard_error": None}
    error = float(known.std()) / math.sqrt(len(known)) if len(known) > 1 else None
    return {"mean": float(known.mean()), "standard_error": error}
