"""How the rewards read text: case, width, words and numbers, with and without spaces."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ..errors import RewardError, shorten
from ..libraries import needed
from ..prompts import Prompt

# Scripts written without spaces: here each character counts as a word. The long-vowel mark belongs
# to no script of its own, so it is named.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー"
LETTER = rf"[^\W{_UNSPACED}]"
# A keyword must not start or end inside a longer word. Korean glues particles to words, so it is
# spared too.
EDGE = rf"[^\W{_UNSPACED}\p{{Hangul}}]"
NUMBER = r"(?:(?<![\w)\]])-)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
_WORD = rf"{NUMBER}(?!{LETTER})|{LETTER}+(?:'{LETTER}+)*|[{_UNSPACED}]"

# Unicode's own figure for text that is safe to normalise (UAX 15, "Stream-Safe"): sorting a long
# run of combining marks takes quadratic time in CPython, minutes for a row of a prompt file.
_MAX_COMBINING_MARKS = 30
# Of a long word, in characters.
_PIECE = 32
# References are compared word by word; no honest one is longer.
MAX_REFERENCE_CHARACTERS = 20_000
_SAME_CHARACTER = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "−": "-", "‐": "-", "‑": "-"})


@lru_cache(maxsize=1024)
def trusted_regex(pattern: str) -> Any:
    """A compiled pattern of our own making, from the `regex` library, which knows scripts."""
    with needed("regex", "This reward", RewardError):
        import regex

    return regex.compile(pattern)


def normalise(text: str) -> str:
    """`text` without differences of case, width (full or half), apostrophes and minus signs."""
    if not text.isascii():
        text = _without_excess_marks(text)
        text = unicodedata.normalize("NFKC", text.translate(_SAME_CHARACTER))
    return text.casefold()


def _without_excess_marks(text: str) -> str:
    kept, run = [], 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run <= _MAX_COMBINING_MARKS:
            kept.append(character)
    return "".join(kept)


def words(text: str) -> list[str]:
    """The words of `text`, normalised, in order.

    A number is one word, without its thousands separators. In Japanese, Chinese and other scripts
    without spaces every character is a word. Punctuation and symbols are no words.
    """
    found = trusted_regex(_WORD).findall(normalise(text))
    return [word.replace(",", "") for word in found]


def has_words(text: str) -> bool:
    """Whether there is anything to read: at least one letter or digit of any script."""
    return any(character.isalnum() for character in text)


def is_blank(text: str) -> bool:
    """Whether `text` shows nothing: only spaces, line ends, control and invisible characters."""
    return all(unicodedata.category(character)[0] in "ZC" for character in text)


def phrase(text: str) -> str:
    """A pattern that finds `text` in normalised text, as whole words where words are separated."""
    with needed("regex", "This reward", RewardError):
        import regex

    parts = normalise(text).split()
    at_edge = trusted_regex(EDGE).match
    before = f"(?<!{EDGE})" if at_edge(parts[0][0]) else ""
    after = f"(?!{EDGE})" if at_edge(parts[-1][-1]) else ""
    return before + r"\s+".join(_literal(part, regex.escape) for part in parts) + after


def _literal(text: str, escape: Callable[[str], str]) -> str:
    """A pattern for `text`, in pieces: before its first search `regex` takes cubic time in the length of a piece."""
    starts = range(0, len(text), _PIECE)
    return r"(?!\A)".join(escape(text[start : start + _PIECE]) for start in starts)


def reference_texts(prompt: Prompt, field: str) -> list[str] | None:
    """What the prompt's row says in the column `field`: one text, or several if it is a list.

    Returns:
        None where the row has no such column or a null in it: the prompt cannot be scored.

    Raises:
        RewardError: The column is there but empty, too long, or neither text nor number.
    """
    value = prompt.fields.get(field)
    if value is None:
        return None
    items = value if isinstance(value, list) else [value]
    for item in items:
        if isinstance(item, bool) or not isinstance(item, (str, int, float)):
            raise RewardError(
                f"the prompt's field {field!r} must be a text, a number or a list of these. Found "
                f"{shorten(item)}"
            )
    texts = [str(item) for item in items]
    if sum(map(len, texts)) > MAX_REFERENCE_CHARACTERS:
        raise RewardError(
            f"the prompt's field {field!r} may have {MAX_REFERENCE_CHARACTERS} characters. "
            f"Found {sum(map(len, texts))}"
        )
    if not texts or not all(text.strip() for text in texts):
        raise RewardError(f"the prompt's field {field!r} is empty; fill it in or leave it out")
    return texts
