"""Regular expressions that users write: bounded in time and memory.

A workflow may come from a stranger, and the standard library's `re` cannot be interrupted while it
backtracks, so the `regex` library runs these patterns: it can be given a time limit. Its compiler
has none, and unrolls counted repetitions for an optimisation; that part is bounded by arithmetic on
the counts.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ..errors import RewardError, shorten
from ..libraries import needed

MAX_PATTERN_CHARACTERS = 1_000
# More than the longest completion, 32 768 tokens, can have: whatever a model says is scored.
MAX_TEXT_CHARACTERS = 10_000_000
# Processor seconds of the whole process. Honest patterns take far below a millisecond.
TIME_LIMIT_SECONDS = 1.0
# Product of all minimum counts, times the pattern's length: a million costs about 0.3 s and 300 MB.
_MAX_UNROLLED = 1_000_000
# (?R), (?1), (?&name): an open parenthesis, not escaped, that calls a group again.
_RECURSION = r"(?<!\\)(?:\\\\)*\(\?(?:R|&|P[>&]|[+-]?\d)"


def compile_pattern(text: str, *, ignore_case: bool = False) -> Any:
    """A compiled pattern for `search`.

    Raises:
        RewardError: The pattern is empty, too long, not valid, recursive, or repeats something too
            often.
    """
    with needed("regex", "A pattern", RewardError):
        import regex

    if not text or len(text) > MAX_PATTERN_CHARACTERS:
        raise RewardError(
            f"A pattern must have 1 to {MAX_PATTERN_CHARACTERS} characters. Found {len(text)}."
        )
    if regex.search(_RECURSION, text):
        # Within the time limit it could still fill most of a gigabyte.
        raise RewardError(f"The pattern {shorten(text)} is recursive, which is not supported.")
    # Nesting is ignored on purpose: taking every count as nested in every other can only
    # overestimate. An absent minimum, as in {,5}, counts as nothing.
    counts = [max(int(count), 1) for count in regex.findall(r"\{\s*(\d{1,10})", text)]
    if prod(counts) * len(text) > _MAX_UNROLLED:
        raise RewardError(
            f"The pattern {shorten(text)} repeats too often. Lower the counts in braces, or use + "
            "or *."
        )
    try:
        return regex.compile(text, regex.IGNORECASE if ignore_case else 0)
    except (regex.error, RecursionError, OverflowError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RewardError(
            f"The pattern {shorten(text)} is not valid: {reason}. Correct it."
        ) from error


def search(pattern: Any, text: str) -> bool:
    """Whether `pattern` occurs in `text`.

    Raises:
        RewardError: The text is too long, or the search took longer than the time limit. Neither is
            a mismatch, so neither may become a low reward.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise RewardError(
            f"a text of {len(text)} characters is too long for a pattern; the limit is "
            f"{MAX_TEXT_CHARACTERS}"
        )
    try:
        return pattern.search(text, timeout=TIME_LIMIT_SECONDS) is not None
    except TimeoutError as error:
        raise RewardError(
            f"the pattern {shorten(pattern.pattern)} took more than {TIME_LIMIT_SECONDS:g} s on a "
            f"text of {len(text)} characters; avoid repetitions inside repetitions, like (a+)+"
        ) from error
