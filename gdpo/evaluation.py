"""Rewards on prompts that were not trained on, and policies compared side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .errors import PromptError
from .inference import generate
from .policy import Policy, attached
from .progress import Progress
from .prompts import Prompt
from .rewards.base import Completion, Reward, score_rewards
from .rollouts import sample

# Completions sampled at a time.
_BATCH = 64


def complete(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    poll: Callable[[], None] = lambda: None,
    progress: Progress | None = None,
) -> list[Completion]:
    """One completion for each prompt, in batches."""
    found: list[Completion] = []
    for start in range(0, len(prompts), _BATCH):
        part = prompts[start : start + _BATCH]
        rollouts = sample(
            model,
            tokenizer,
            part,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed + start,
            poll=poll,
        )
        found += rollouts.completions
        if progress:
            progress.phase("evaluating", len(found), len(prompts))
    return found


def evaluate(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[Prompt],
    rewards: Sequence[Reward],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Sample one completion for each prompt and score it: the `eval` entry of a run's history."""
    progress = progress or Progress()
    completions = complete(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        poll=progress.poll,
        progress=progress,
    )
    return summarise(rewards, prompts, completions, progress.poll)


def summarise(
    rewards: Sequence[Reward],
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Means with standard errors of each reward, and the lengths, over completions."""
    scores = score_rewards(rewards, prompts, completions, poll)
    lengths = torch.tensor([float(c.tokens) for c in completions])
    return {
        "rewards": {r.name: _mean(row) for r, row in zip(rewards, scores, strict=True)},
        "length": {"mean": float(lengths.mean()), "std": float(lengths.std(unbiased=False))},
        "truncated": sum(c.truncated for c in completions) / len(completions),
    }


def _mean(scores: torch.Tensor) -> dict[str, float | None]:
    known = scores[~scores.isnan()]
    if not len(known):
        return {"mean": None, "standard_error": None}
    error = float(known.std()) / math.sqrt(len(known)) if len(known) > 1 else None
    return {"mean": float(known.mean()), "standard_error": error}


@dataclass(frozen=True)
class Comparison:
    """Columns (base, tuned, GGUF, ...) side by side on the same prompts.

    Attributes:
        rewards: `{column: {reward: mean}}`.
        lengths: `{column: {"mean": tokens, "std": tokens}}`.
        answers: For each prompt `{"prompt": text, column: completion}`.
    """

    rewards: dict[str, dict[str, float | None]]
    lengths: dict[str, dict[str, float]]
    answers: list[dict[str, str]]

    def table(self) -> str:
        """Plain text: one line for each reward, one column for each policy."""
        columns = list(self.rewards)
        names = list(self.rewards[columns[0]])
        cells = [["", *columns]]
        for name in names:
            values = [self.rewards[c][name] for c in columns]
            cells.append([name, *("-" if v is None else f"{v:.3f}" for v in values)])
        spans = [self.lengths[c] for c in columns]
        cells.append(["length (tokens)", *(f"{s['mean']:.1f} ± {s['std']:.1f}" for s in spans)])
        widths = [max(len(row[i]) for row in cells) for i in range(len(columns) + 1)]
        return "\n".join(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        )


def compare(
    policies: Mapping[str, Policy | Path],
    prompts: Sequence[Prompt],
    rewards: Sequence[Reward],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    progress: Progress | None = None,
) -> Comparison:
    """Answer the same prompts with several policies or GGUF files and score all answers.

    Raises:
        PromptError: There are no prompts.
    """
    if not prompts:
        raise PromptError("There are no prompts to compare on; load some.")
    progress = progress or Progress()
    means: dict[str, dict[str, float | None]] = {}
    lengths: dict[str, dict[str, float]] = {}
    answers: list[dict[str, str]] = [{"prompt": prompt.text} for prompt in prompts]
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "seed": seed,
        "progress": progress,
    }
    for column, policy in policies.items():
        if isinstance(policy, Policy):
            with attached(policy) as model:
                found = complete(
                    model, policy.base.tokenizer, prompts, poll=progress.poll, **options
                )
        else:
            found = generate(policy, prompts, **options)
        summary = summarise(rewards, prompts, found, progress.poll)
        means[column] = {name: value["mean"] for name, value in summary["rewards"].items()}
        lengths[column] = summary["length"]
        for answer, completion in zip(answers, found, strict=True):
            answer[column] = completion.text
    return Comparison(means, lengths, answers)
