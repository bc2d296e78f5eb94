"""Answer match: the right answer, which the prompt's row knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import RewardError, shorten
from ..options import check_options, option
from ..prompts import Prompt
from .quantity import is_same, read_answer, read_reference
from .scorer import Completion
from .text import reference_texts, words

# Comparing two texts word by word takes time in the product of their lengths.
MAX_REFERENCE_WORDS = 1_000


@dataclass(frozen=True)
class AnswerMatch:
    """Compares the completion with a reference answer; of several references the best counts."""

    kind: ClassVar[str] = "AnswerMatch"
    summary: ClassVar[str] = "Rewards completions that give the reference answer of their prompt."
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    field: str = option(
        "reference",
        "Name of the prompt column with the right answer (a text, a number, or a list of "
        "acceptable ones). Prompts without it are not scored.",
    )
    mode: str = option(
        "contains",
        "contains: the answer's words occur together somewhere. exact: nothing else is said. "
        "numeric: the marked answer (####, boxed, 'the answer is', bold), or else the last number, "
        "is the right quantity, however both are written. Case, width, punctuation and spaces "
        "never matter.",
        choices=("contains", "exact", "numeric"),
    )
    tolerance: float = option(
        0.0,
        "numeric only: largest difference from the right number that still counts, in the "
        "number's own unit.",
        minimum=0.0,
        maximum=1e12,
        step=0.01,
    )
    partial_credit: bool = option(
        False,
        "contains and exact: pay the share of the answer that the completion says in one piece, "
        "instead of all or nothing. Easier to learn from when right answers are rare.",
    )

    def __post_init__(self) -> None:
        """Refuses settings that cannot work.

        Raises:
            RewardError: A setting is out of range or the column's name is empty.
        """
        check_options(self)
        if not self.field.strip():
            raise RewardError(
                "AnswerMatch: `field` must name the prompt column with the answer. Found ''."
            )

    def check(self, prompt: Prompt) -> bool:
        """Tell whether the prompt's row has a reference.

        Raises:
            RewardError: It has one that cannot be compared with.
        """
        references = reference_texts(prompt, self.field.strip())
        for reference in references or ():
            if self.mode == "numeric":
                read_reference(reference)
            else:
                _wanted_words(reference)
        return references is not None

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """1 where the answer is given, else 0 or, with partial credit, a share."""
        references = reference_texts(prompt, self.field.strip())
        if references is None:
            return None
        if self.mode == "numeric":
            return self._numeric(references, completion.text)
        said = words(completion.text)
        return max(self._verbal(text, said) for text in references)

    def _verbal(self, reference: str, said: list[str]) -> float:
        wanted = _wanted_words(reference)
        whole = len(wanted) if self.mode == "contains" else max(len(wanted), len(said))
        share = _longest_common_run(wanted, said) / whole
        return share if self.partial_credit else float(share == 1.0)

    def _numeric(self, references: list[str], text: str) -> float:
        wanted = [read_reference(reference) for reference in references]
        found = read_answer(text)
        if found is None:
            return 0.0
        return float(any(is_same(found, one, self.tolerance) for one in wanted))


def _wanted_words(reference: str) -> list[str]:
    wanted = words(reference)
    if not 0 < len(wanted) <= MAX_REFERENCE_WORDS:
        raise RewardError(
            f"a reference must have 1 to {MAX_REFERENCE_WORDS} words. Found {len(wanted)} in "
            f"{shorten(reference)}"
        )
    return wanted


def _longest_common_run(wanted: list[str], said: list[str]) -> int:
    """Return the length of the longest piece of `wanted`, in words, that occurs unbroken in `said`."""
    places: dict[str, list[int]] = {}
    for index, word in enumerate(wanted):
        places.setdefault(word, []).append(index)
    best, ending = 0, {}
    for word in said:
        # ending[j]: length of the common run that ends at wanted[j] and at this word.
        ending = {index: ending.get(index - 1, 0) + 1 for index in places.get(word, ())}
        best = max(best, *ending.values(), 0)
    return best
