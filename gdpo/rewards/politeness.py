"""Politeness: different courtesies in English or Japanese, minus rudeness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..options import check_options, option
from ..prompts import Prompt
from . import courtesies
from .scorer import Completion
from .text import normalise, trusted_regex, words


def _prepared(english: tuple[str, ...], japanese: tuple[str, ...]) -> tuple[frozenset[str], str]:
    return frozenset(english), "|".join(japanese)


COURTESIES = {kind: _prepared(*markers) for kind, markers in courtesies.COURTESIES.items()}
RUDENESS = _prepared(*courtesies.RUDENESS)
_LONGEST = max(
    len(text.split()) for english, _ in [*COURTESIES.values(), RUDENESS] for text in english
)


@dataclass(frozen=True)
class Politeness:
    """Counts kinds of courtesy, not courtesies, so that repeating a phrase earns nothing."""

    kind: ClassVar[str] = "Politeness"
    summary: ClassVar[str] = (
        "Rewards courtesies of different kinds in English or Japanese and subtracts rude words."
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    wanted: int = option(
        3,
        "How many kinds of courtesy earn the full reward, of: greeting, thanks, apology or "
        "empathy, softened request, offer of help, polite form.",
        minimum=1,
        maximum=len(COURTESIES),
    )
    rudeness_penalty: float = option(
        0.5,
        "How much each different rude word or phrase takes away, as a share of the full reward.",
        minimum=0.0,
        maximum=1.0,
        step=0.05,
    )

    def __post_init__(self) -> None:
        """Refuses settings out of range.

        Raises:
            RewardError: A setting is out of range.
        """
        check_options(self)

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """min(1, kinds of courtesy / wanted) - rudeness_penalty * rude markers, at least 0."""
        text = normalise(completion.text)
        said = _runs(words(text))
        polite = sum(bool(_markers(text, said, *markers)) for markers in COURTESIES.values())
        rude = len(_markers(text, said, *RUDENESS))
        return max(0.0, min(1.0, polite / self.wanted) - self.rudeness_penalty * rude)


def _runs(said: list[str]) -> set[str]:
    """Return all runs of one to `_LONGEST` words, which is much faster to look up in than searching."""
    return {
        " ".join(said[start : start + length])
        for length in range(1, _LONGEST + 1)
        for start in range(len(said) - length + 1)
    }


def _markers(text: str, said: set[str], english: frozenset[str], japanese: str) -> set[str]:
    """Return the different markers that occur."""
    found = said & english
    if not text.isascii():
        found.update(match.group() for match in trusted_regex(japanese).finditer(text))
    return found
