"""What scores a completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from ..prompts import Prompt


@dataclass(frozen=True)
class Completion:
    """A sampled text. `truncated` means that it hit the token limit before it ended by itself."""

    text: str
    tokens: int
    truncated: bool = False


class Scorer(Protocol):
    """Anything that scores a completion. Must be an immutable, hashable value.

    A scorer that needs something of the prompt's row may have a method `check(prompt) -> bool` besides,
    which tells without a completion whether it can score the prompt: see `coverage`.
    """

    kind: ClassVar[str]
    summary: ClassVar[str]
    value_range: ClassVar[tuple[float, float]]

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """Return a number inside `value_range`, or None where this prompt cannot be scored."""
        ...
