"""Conciseness: a completion of the wished length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import RewardError
from ..options import check_options, option
from ..prompts import Prompt
from .scorer import Completion
from .text import has_words, words


@dataclass(frozen=True)
class Conciseness:
    """1 inside the wished band of lengths, falling linearly to 0 just beyond `tolerance`.

    A completion without any letter or digit gets 0 whatever the band: silence is not brevity.
    """

    kind: ClassVar[str] = "Conciseness"
    summary: ClassVar[str] = "Rewards completions whose length lies in a wished band."
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    unit: str = option(
        "words",
        "What is counted. Each Japanese or Chinese character counts as one word; characters leave "
        "out spaces; tokens are the model's own.",
        choices=("words", "characters", "tokens"),
    )
    shortest: int = option(
        5,
        "Shortest length that earns the full reward, in the unit above.",
        minimum=0,
        maximum=100_000,
    )
    longest: int = option(
        40,
        "Longest length that earns the full reward, in the unit above.",
        minimum=1,
        maximum=100_000,
    )
    tolerance: int = option(
        40,
        "How far outside the band the reward lasts while it falls from 1 to 0, in the unit above. "
        "Larger gives a long-winded model something to climb; 0 is all or nothing.",
        minimum=0,
        maximum=100_000,
    )

    def __post_init__(self) -> None:
        """Refuses an impossible band.

        Raises:
            RewardError: A setting is out of range, or the band is upside down.
        """
        check_options(self)
        if self.shortest > self.longest:
            raise RewardError(
                "Conciseness: `shortest` must not exceed `longest`. "
                f"Found {self.shortest} and {self.longest}."
            )

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """1 - distance to the band / (tolerance + 1), at least 0."""
        if not has_words(completion.text):
            return 0.0
        length = self._length(completion)
        distance = max(self.shortest - length, length - self.longest, 0)
        # One more than the tolerance, so that the last tolerated length still earns something.
        return max(0.0, 1.0 - distance / (self.tolerance + 1))

    def _length(self, completion: Completion) -> int:
        if self.unit == "tokens":
            return completion.tokens
        if self.unit == "words":
            return len(words(completion.text))
        return sum(not character.isspace() for character in completion.text)
