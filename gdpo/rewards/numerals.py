"""Numerals: the digits of one number with their marks, as people of several countries write them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from .text import trusted_regex

# An answer has a few digits. A hostile `1e999999999` would fill the memory, since arithmetic is exact.
MAX_DIGITS = 400
MAX_EXPONENT = 400

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_FRACTION = rf"(?:(?P<whole>{_WHOLE}) )?(?P<over>{_WHOLE})/(?P<under>{_WHOLE})"
_GROUPED_BY_COMMA = r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?|[1-9]\d{0,2}(?:,\d{2})+,\d{3}(?:\.\d+)?"
_GROUPED_BY_POINT = r"[1-9]\d{0,2}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})"
_GROUPED_BY_SPACE = r"\d{1,3}(?:(?: \d{3})+|(?:'\d{3})+)(?:[.,]\d+)?"
# One mark with three digits after it, which is a thousand to some and three decimals to others.
_AMBIGUOUS = r"[1-9]\d{0,2}[.,]\d{3}"


@dataclass(frozen=True)
class Numeral:
    """The number that digits and marks stand for.

    Attributes:
        value: The number, read as in English where that matters.
        other: The number as read with a decimal comma, where one mark leaves it open; else None.
        decimal_comma: True where only a decimal comma explains the marks.
    """

    value: Fraction
    other: Fraction | None = None
    decimal_comma: bool = False


def read_numeral(text: str) -> Numeral | None:
    """Return the number that `text` is, all of it; None where it is a date, a version, a list or the like.

    Args:
        text: ASCII digits joined by single marks, spaces, apostrophes, slashes or colons.
    """
    if sum(map(str.isdigit, text)) > MAX_DIGITS:
        return None
    fraction = trusted_regex(_FRACTION).fullmatch(text)
    if fraction:
        return _read_fraction(*fraction.group("whole", "over", "under"))
    if trusted_regex(_AMBIGUOUS).fullmatch(text):
        as_decimal, as_whole = Fraction(text.replace(",", ".")), Fraction(_digits(text))
        if "," in text:
            return Numeral(as_whole, as_decimal)
        return Numeral(as_decimal, as_whole)
    if trusted_regex(_GROUPED_BY_COMMA).fullmatch(text):
        return Numeral(Fraction(text.replace(",", "")))
    if trusted_regex(_GROUPED_BY_POINT).fullmatch(text):
        return Numeral(Fraction(text.replace(".", "").replace(",", ".")), None, True)
    if trusted_regex(rf"{_GROUPED_BY_SPACE}|\d+[.,]\d+|\d+|\.\d+").fullmatch(text):
        plain = text.replace(" ", "").replace("'", "").replace(",", ".")
        return Numeral(Fraction(plain), None, "," in text)
    return None


def _read_fraction(whole: str | None, over: str, under: str) -> Numeral | None:
    above, below = int(_digits(over)), int(_digits(under))
    # 1 234/5 is no mixed number: who writes one writes a proper fraction.
    if below == 0 or (whole is not None and above >= below):
        return None
    return Numeral(int(_digits(whole or "0")) + Fraction(above, below))


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))
