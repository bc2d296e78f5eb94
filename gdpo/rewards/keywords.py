"""Keywords: words that must, and words that must not, occur."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from ..errors import RewardError
from ..options import check_options, option
from ..prompts import Prompt
from .scorer import Completion
from .text import has_words, normalise, phrase, reference_texts, trusted_regex

# Each one costs a search of its own.
MAX_KEYWORDS = 500


@dataclass(frozen=True)
class Keywords:
    """The share of required keywords found, halved for each forbidden one found.

    Case and width are ignored. A keyword matches whole words only ("net" is not in "internet"),
    except in scripts that do not separate words.
    """

    kind: ClassVar[str] = "Keywords"
    summary: ClassVar[str] = "Rewards completions that contain required and avoid forbidden words."
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    required: str = option(
        "",
        "Words or phrases that should occur, separated by commas or line ends.",
        multiline=True,
    )
    enough: str = option(
        "all",
        "all: the reward is the share of required keywords that occur. any: one of them is enough.",
        choices=("all", "any"),
    )
    forbidden: str = option(
        "",
        "Words or phrases that should not occur, separated by commas or line ends; each one that "
        "does halves the reward.",
        multiline=True,
    )
    field: str = option(
        "",
        "Name of a prompt column with further required keywords for that prompt (a text or a "
        "list). Empty: none. Prompts without the column are not scored.",
    )

    def __post_init__(self) -> None:
        """Refuses a reward that would look for nothing, or for the same word in both lists.

        Raises:
            RewardError: No keyword and no column is given, or a keyword is required and forbidden.
        """
        check_options(self)
        required, forbidden = _split([self.required]), _split([self.forbidden])
        if not (required or forbidden or self.field.strip()):
            raise RewardError(
                "Keywords: fill in `required`, `forbidden` or `field`; all three are empty."
            )
        both = sorted(set(required) & set(forbidden))
        if both:
            raise RewardError(
                f"Keywords: {both[0]!r} is both required and forbidden. Remove it from one."
            )

    def check(self, prompt: Prompt) -> bool:
        """Tell whether the prompt's row has the column with keywords, if one is named.

        Raises:
            RewardError: What it has cannot be keywords.
        """
        if not self.field.strip():
            return True
        texts = reference_texts(prompt, self.field.strip())
        return texts is not None and _split(texts) is not None

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """Return the share of required keywords found (or 1 if any is), times one half per forbidden one."""
        required = _split([self.required])
        if self.field.strip():
            texts = reference_texts(prompt, self.field.strip())
            if texts is None:
                return None
            required = tuple(dict.fromkeys((*required, *_split(texts))))
        if not has_words(completion.text):
            return 0.0
        text = normalise(completion.text)
        found = _count(required, text)
        share = min(found, 1) if self.enough == "any" else found / max(len(required), 1)
        return (share if required else 1.0) * 0.5 ** _count(_split([self.forbidden]), text)


def _split(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the different keywords, normalised; commas (Japanese ones too) and line ends separate."""
    pieces = (piece for text in texts for piece in trusted_regex("[,、\n]").split(normalise(text)))
    keywords = tuple(dict.fromkeys(" ".join(piece.split()) for piece in pieces if piece.strip()))
    if len(keywords) > MAX_KEYWORDS:
        raise RewardError(
            f"Keywords: at most {MAX_KEYWORDS} keywords are searched for. Found {len(keywords)}."
        )
    return keywords


def _count(keywords: tuple[str, ...], text: str) -> int:
    return sum(trusted_regex(phrase(keyword)).search(text) is not None for keyword in keywords)
