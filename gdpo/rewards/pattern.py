"""Pattern: a wished format, as a template with placeholders or as a regular expression."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import Any, ClassVar

from ..errors import RewardError, shorten
from ..options import check_options, option
from ..prompts import Prompt
from .bounded_regex import compile_pattern, search
from .scorer import Completion
from .text import is_blank

# What a completion can earn that has parts of the template but not its form.
_PARTS_ONLY = 0.5


@dataclass(frozen=True)
class Pattern:
    """1 for a completion of the wished format; a template also pays up to half for its parts."""

    kind: ClassVar[str] = "Pattern"
    summary: ClassVar[str] = (
        "Rewards completions of a given format: a template or a regular expression."
    )
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    pattern: str = option(
        "Problem: {problem} Solution: {solution}",
        "The format. Template: fixed text with {placeholders}, each standing for any text that is "
        "not empty; write {{ and }} for braces. Regex: must be found somewhere; enclose in ^ and "
        "$ for the whole text.",
        multiline=True,
    )
    syntax: str = option(
        "template",
        "template: all or nothing earns 1, parts in the right order up to 0.5; every run of "
        "spaces and line ends is alike. regex: 1 if found, else 0.",
        choices=("template", "regex"),
    )
    ignore_case: bool = option(False, "Whether upper and lower case are the same.")

    def __post_init__(self) -> None:
        """Refuses a pattern that cannot be used.

        Raises:
            RewardError: The regular expression or the template is not valid.
        """
        check_options(self)
        if self.syntax == "regex":
            compile_pattern(self.pattern, ignore_case=self.ignore_case)
        else:
            _template(self.pattern)

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """1 where the format is met; see the fields for what less is worth."""
        if is_blank(completion.text):
            return 0.0
        text = completion.text.strip()
        if self.syntax == "regex":
            return float(search(_compiled(self.pattern, self.ignore_case), text))
        text = " ".join(text.split())
        pieces = _template(self.pattern)
        if self.ignore_case:
            text, pieces = text.casefold(), tuple(piece.casefold() for piece in pieces)
        return 1.0 if _fits(pieces, text) else _PARTS_ONLY * _share_in_order(pieces, text)


@lru_cache(maxsize=64)
def _compiled(pattern: str, ignore_case: bool) -> Any:
    return compile_pattern(pattern, ignore_case=ignore_case)


@lru_cache(maxsize=64)
def _template(pattern: str) -> tuple[str, ...]:
    """Return the fixed texts around a template's placeholders; the first and the last may be empty."""
    try:
        parts = list(Formatter().parse(" ".join(pattern.split())))
    except ValueError as error:
        raise RewardError(
            f"The template {shorten(pattern)} is not valid: {error}. Write {{{{ and }}}} for "
            "braces."
        ) from error
    pieces = [""]
    for literal, name, specification, conversion in parts:
        pieces[-1] += literal
        if name is None:
            continue
        if specification or conversion or not name.strip():
            raise RewardError(
                f"The template {shorten(pattern)} has the placeholder {shorten(name)} with "
                "something in it that is not a name. Write a word in braces."
            )
        pieces.append("")
    if len(pieces) < 2 or not any(piece.strip() for piece in pieces):
        raise RewardError(
            f"The template {shorten(pattern)} needs fixed text and at least one placeholder like "
            "{answer}."
        )
    return tuple(pieces)


def _fits(pieces: tuple[str, ...], text: str) -> bool:
    """Tell whether `text` is the pieces in order with something other than spaces in each gap.

    Takes each piece at its first possible place, which leaves the most room for the rest: linear
    time, no backtracking.
    """
    first, *middle, last = pieces
    if not text.startswith(first):
        return False
    position = len(first)
    for piece in middle:
        start = _after_something(text, position)
        found = text.find(piece, start)
        if start > len(text) or found < 0:
            return False
        position = found + len(piece)
    return text.endswith(last) and len(text) - len(last) >= _after_something(text, position)


def _after_something(text: str, position: int) -> int:
    """Tell where the first character after `position` that is not a space ends."""
    while position < len(text) and text[position].isspace():
        position += 1
    return position + 1


def _share_in_order(pieces: tuple[str, ...], text: str) -> float:
    wanted = [piece.strip() for piece in pieces if piece.strip()]
    position, found = 0, 0
    for piece in wanted:
        place = text.find(piece, position)
        if place >= 0:
            position, found = place + len(piece), found + 1
    return found / len(wanted)
