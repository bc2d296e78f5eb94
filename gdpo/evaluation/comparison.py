"""Base, tuned policies and GGUF files side by side on the same prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PromptError
from ..policies.policy import Policy
from ..progress import Progress
from ..prompts import Prompt, as_prompts
from ..rewards.reward import Reward
from ..runs.record import LengthFigures
from .answers import generate
from .heldout import summarise


@dataclass(frozen=True)
class Comparison:
    """Columns (base, tuned, GGUF, ...) side by side on the same prompts.

    Attributes:
        rewards: `{column: {reward: mean}}`.
        lengths: `{column: {"mean": tokens, "std": tokens}}`.
        answers: List of `{"prompt": text, column: completion}`, one for each prompt.
    """

    rewards: dict[str, dict[str, float | None]]
    lengths: dict[str, LengthFigures]
    answers: list[dict[str, str]]

    def table(self) -> str:
        """Return a plain text: one line for each reward, one column for each policy."""
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
    policies: Mapping[str, Policy | Path | str],
    prompts: Sequence[Prompt | str],
    rewards: Sequence[Reward],
    *,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Answer the same prompts with several policies or GGUF files and score all answers.

    Args:
        policies: Name of a column -> a policy, or the path of a GGUF file.
        prompts: One or more prompts; a text is a user's message.
        rewards: Those to score with.
        max_new_tokens: Longest completion, in tokens.
        temperature: Divides the logits; 0 takes the likeliest token.
        seed: Number of at least 0, the same for all columns.
        progress: Receives the phases, and may stop the work by raising.

    Raises:
        PromptError: There are no prompts.
    """
    if not prompts:
        raise PromptError("There are no prompts to compare on; load some.")
    prompts, progress = as_prompts(prompts), progress or Progress()
    means: dict[str, dict[str, float | None]] = {}
    lengths: dict[str, LengthFigures] = {}
    answers: list[dict[str, str]] = [{"prompt": prompt.text} for prompt in prompts]
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "seed": seed,
        "progress": progress,
    }
    for column, policy in policies.items():
        found = generate(policy, prompts, **options)
        summary = summarise(rewards, prompts, found, progress)
        means[column] = {name: value["mean"] for name, value in summary["rewards"].items()}
        lengths[column] = summary["length"]
        for answer, completion in zip(answers, found, strict=True):
            answer[column] = completion.text
    return Comparison(means, lengths, answers)
