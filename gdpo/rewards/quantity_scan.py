"""Finds the quantities of a plain text, and leaves dates, lists, formulas and numbers inside words alone."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .numerals import MAX_EXPONENT, read_numeral
from .quantity_text import OPAQUE
from .quantity_units import read_size, read_unit, units_named
from .text import trusted_regex

# Letters of scripts that separate words; in the others digits touch the words beside them.
LETTER = r"[^\W\d_\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Hangul}ー]"
_MONTH = (
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|januar|februar|märz|april|mai|juni|juli|august|"
    r"september|oktober|november|dezember|january|february|march|june|july|october|december|janvier|"
    r"février|mars|avril|juin|juillet|août|septembre|octobre|novembre|décembre|enero|febrero|marzo|abril|"
    r"mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre)\b\.?"
)
_DATE = (
    rf"\d{{1,2}}(?:st|nd|rd|th|\.)? (?:of |de )?{_MONTH}(?:,? (?:de )?\d{{4}}\b)?"
    rf"|\b{_MONTH} (?:\d{{1,2}}(?:st|nd|rd|th)\b|\d{{1,2}}(?=, \d{{4}}\b))(?:,? \d{{4}}\b)?"
    rf"|\b{_MONTH} (?:de )?(?:19|20)\d\d\b"
    r"|\d+年\d+月(?:\d+日)?|\d+月\d+日|\d+時\d+分|\(\d{2,5}\) ?\d+[ -]\d+"
)
_RUN = r"(?:\d++(?:[.,':/ -]\d++)*+|(?<![\w.])\.\d++)"
_POWER = rf"[eE](?P<e>[+-]?\d+)(?!{LETTER}|[\d_])| ?[×*·] ?10 ?\^ ?\(?(?P<ten>[+-]?\d+)\)?|\^(?P<plain>[+-]?\d+)"
_CURRENCY = r"(?:(?:us|r|hk|a|c)?\$|[€£¥₹₩₽]|(?<!\w)(?:usd|eur|gbp|jpy|chf|cny|inr|rs)\.?)"
_IS = r"(?i)\b(?:is|ist|est|es|equals) $"
# Single letters are formulas beside an operator only; some are words as well.
_VARIABLE = rf"(?<![\w'])(?:[b-df-hj-np-tv-xz](?![\w'])|[aeiouy](?= ?[+*/^-] ?\d)|(?<=\d ?[+*/^-] ?)[aeiouy](?![\w']))|[{OPAQUE}π∞]"
_ITEM = (
    rf"(?i)(?P<date>{_DATE})"
    rf"|(?:(?P<sign>[+-])(?P<apart> ?))?(?:(?P<currency>{_CURRENCY}) ?(?P<inner>[+-])?)?"
    rf"(?P<run>{_RUN})(?P<power>{_POWER})?"
    rf"|(?P<variable>{_VARIABLE})"
)


@dataclass(frozen=True)
class Quantity:
    """A number with its unit.

    Attributes:
        value: The number, exactly.
        units: Units that it may have; none where none of the table is named.
        other: The number as read with a decimal comma, where its one mark leaves that open.
        decimal_comma: True where only a decimal comma explains its marks.
    """

    value: Fraction
    units: frozenset[str] = frozenset()
    other: Fraction | None = None
    decimal_comma: bool = False


@dataclass(frozen=True)
class Item:
    """A place of a text at which digits or the letters of a formula stand; `quantity` is None where it is none."""

    start: int
    end: int
    quantity: Quantity | None
    text: str

    @property
    def is_number(self) -> bool:
        """Tell whether there are digits."""
        return any(map(str.isdigit, self.text))


def find_items(text: str) -> list[Item]:
    """Return all numbers and letters of formulas in a plain text, in order."""
    items: list[Item] = []
    pattern, place = trusted_regex(_ITEM), 0
    while found := pattern.search(text, place):
        items.append(_read(text, found))
        place = max(found.end(), items[-1].end)  # behind the unit: the 2 of m^2 is no number
    return items


def _read(text: str, found: Any) -> Item:
    start, end = found.span()
    if found["run"] is None:
        return Item(start, end, None, found[0])
    negative, start = _read_sign(text, found)
    value = _read_value(found)
    size, end = read_size(text, end)
    units, end = read_unit(text, end)
    if value is None or _is_in_word(text, start, end, found) or _is_pair(text, found):
        return Item(start, end, None, found[0])
    factor = -size if negative else size
    other = None if value.other is None else value.other * factor
    named = units or units_named((found["currency"] or "").rstrip("."))
    quantity = Quantity(value.value * factor, named, other, value.decimal_comma)
    return Item(start, end, quantity, found["run"])


def _read_sign(text: str, found: Any) -> tuple[bool, int]:
    """Return whether the number is below 0, and where it starts; a sign after something is an operator."""
    start, sign = found.start(), found["sign"]
    if sign is None:
        return found["inner"] == "-", start
    before = text[:start]
    touches = before[-1:].isalnum() or before[-1:] in {")", "]", "%", "_"}
    after_term = before.rstrip(" ")[-1:].isdigit() or before.rstrip(" ")[-1:] == ")"
    begins = before.rstrip(" ")[-1:] in set("=:(×*/÷は") or trusted_regex(_IS).search(before)
    if not before.strip():  # "- 5" alone is below 0, "- 5 apples" is an item of a list
        begins = not any(map(str.isalpha, text[found.end() :]))
    if touches or after_term or (found["apart"] and not begins):
        return False, start + 1 + len(found["apart"])
    return sign == "-" or found["inner"] == "-", start


def _read_value(found: Any) -> Any:
    """Return the numeral with its power of ten; None where it is no number, or one beyond all use."""
    numeral = read_numeral(found["run"])
    if numeral is None or found["power"] is None:
        return numeral
    if found["plain"] is not None:
        if found["run"] != "10":
            return None
        numeral = read_numeral("1")
    digits = found["e"] or found["ten"] or found["plain"]
    if numeral is None or len(digits) > 6 or abs(int(digits)) > MAX_EXPONENT:
        return None
    factor = Fraction(10) ** int(digits)
    other = None if numeral.other is None else numeral.other * factor
    return type(numeral)(numeral.value * factor, other, numeral.decimal_comma)


def _is_in_word(text: str, start: int, end: int, found: Any) -> bool:
    """Tell whether letters make the digits a part of a word (GPT4, COVID-19, 2x, 3rd) or of a formula."""
    before = text[max(0, start - 2) : start]
    if found["currency"] is None and trusted_regex(rf"(?:{LETTER}|[_^]|{LETTER}-)$").search(before):
        return True
    if text[end : end + 1] in {"^", "_"}:
        return True
    # After a known unit nothing may touch; otherwise two letters or more make a unit nobody knows.
    glued = trusted_regex(rf"({LETTER}+)(\d?)").match(text, end)
    if glued is None:
        return False
    ordinal = glued[1].casefold() in {"st", "nd", "rd", "th"}
    return len(glued[1]) == 1 or ordinal or bool(glued[2])


def _is_pair(text: str, found: Any) -> bool:
    """Tell whether a decimal comma is none: in (3,4) it separates two numbers."""
    enclosed = text[found.start() - 1 : found.start()] + text[found.end() : found.end() + 1]
    return (
        len(enclosed) == 2 and enclosed[0] in "([{" and enclosed[1] in ")]}" and _has_comma(found)
    )


def _has_comma(found: Any) -> bool:
    return trusted_regex(r"\d+,(?!\d{3}$)\d+|0,\d+").fullmatch(found["run"]) is not None
