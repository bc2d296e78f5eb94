"""Marks of an answer: the places at which a text says that its answer comes now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .text import trusted_regex

_M = r"[\s*_\"']*"  # bold, quotes and line ends may stand between
_IS = r"(?:is|was|equals|becomes|(?:should|must|will|would) be|comes (?:out )?to)\b(?!\s+not\b)"
_PHRASES = (
    rf"\bfinal answer\b(?:{_M}{_IS})?",
    rf"\banswer\b(?: to [^.!?:\n]{{1,80}})??{_M}(?:{_IS}|[:：=])",
    rf"\b(?:end)?(?:antwort|ergebnis)\b{_M}(?:(?:ist|lautet|beträgt)\b(?!\s+nicht\b)|[:：=])",
    rf"\b(?:réponse|reponse|résultat)(?: finale?)?\b{_M}(?:est\b(?!\s+pas\b)|[:：=])",
    rf"\b(?:respuesta|resultado)(?: final| correcta)?\b{_M}(?:es\b|[:：=])",
    rf"(?:答え|答案|正解|回答|答)\**{_M}(?:は|是|为|為|[:：=]|(?=\d))",
)
_HEADINGS = (
    "answer|final answer|antwort|ergebnis|réponse|résultat|respuesta|resultado|答え|答案|解答"
)
_PHRASE = "(?im)" + "|".join((*_PHRASES, rf"^\W*(?:{_HEADINGS})\W*$"))
_BOLD = r"\*\*(?=\S)([^*\n]{1,200})\*\*|__(?=\S)([^_\n]{1,200})__|<(?:b|strong)>([^<>\n]{1,200})</"
_TAG = r"(?is)<answer>(.*?)</answer>"
_MAX_BOXED_CHARACTERS = 1_000


@dataclass(frozen=True)
class Mark:
    """A marked piece of a text.

    Attributes:
        text: What stands after the mark, or inside it.
        closed: True where the mark has an end of its own, as braces and tags have.
        heading: True where the mark may be that of a heading, and counts directly before a number only.
    """

    text: str
    closed: bool = False
    heading: bool = False


def find_marks(text: str) -> Iterator[list[Mark]]:
    """Yield the marked answers, one list for each kind of mark, the surest kind first."""
    yield [Mark(after, heading=True) for after in _lines_after(text, "####+")]
    yield [Mark(found[1], closed=True) for found in trusted_regex(_TAG).finditer(text)]
    yield [Mark(inside, closed=True) for inside in _boxed(text)]
    yield [Mark(after) for after in _lines_after(text, _PHRASE)]


def find_bold(text: str) -> list[str]:
    """Return the pieces in bold type."""
    if "**" not in text and "__" not in text and "<" not in text:
        return []
    return [next(filter(None, found.groups())) for found in trusted_regex(_BOLD).finditer(text)]


def _lines_after(text: str, pattern: str) -> Iterator[str]:
    """Yield what follows each mark: the rest of its line, or the next line where that is empty."""
    for found in trusted_regex(pattern).finditer(text):
        rest, below = _line(text, found.end())
        if not any(map(str.isalnum, rest)):
            while below < len(text) and text[below].isspace():
                below += 1
            rest = _line(text, below)[0]
        yield rest


def _line(text: str, start: int) -> tuple[str, int]:
    """Return the text from `start` to the end of its line, and where the next line starts."""
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    return text[start:end], end + 1


def _boxed(text: str) -> Iterator[str]:
    """Yield the insides of LaTeX's boxes, their braces paired; a box that is not closed is none."""
    for found in trusted_regex(r"\\f?boxed\s*(?=\{)|\\fbox\s*(?=\{)").finditer(text):
        depth = 0
        piece = text[found.end() : found.end() + _MAX_BOXED_CHARACTERS]
        for place, character in enumerate(piece):
            depth += (character == "{") - (character == "}")
            if depth == 0:
                yield piece[1:place]
                break
