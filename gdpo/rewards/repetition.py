"""Repetition: a completion that does not say the same again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..options import check_options, option
from ..prompts import Prompt
from .scorer import Completion
from .text import words


@dataclass(frozen=True)
class Repetition:
    """1 minus the share of word sequences that already occurred earlier in the completion."""

    kind: ClassVar[str] = "Repetition"
    summary: ClassVar[str] = "Rewards completions that do not repeat themselves."
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    size: int = option(
        3,
        "Length of the sequences compared, in words; in Japanese and Chinese, in characters (try "
        "6). Smaller is stricter.",
        minimum=1,
        maximum=20,
    )

    def __post_init__(self) -> None:
        """Refuses settings out of range.

        Raises:
            RewardError: A setting is out of range.
        """
        check_options(self)

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """Different sequences / all sequences; 0 for a completion without words."""
        said = words(completion.text)
        if not said:
            return 0.0
        # Short texts are judged by shorter sequences, or "no no no" would have nothing to compare.
        size = min(self.size, max(1, len(said) // 2))
        sequences = list(zip(*(said[start:] for start in range(size)), strict=False))
        return len(set(sequences)) / len(sequences)
