r"""Quantity: the one number that a text gives as its answer, as people write it.

The grammar, from the outside in:

    answer    a marked answer, else a bold one, else the last quantity of the text
    marked    `#### 72`, `<answer>72</answer>`, `\boxed{72}`, "the answer is 72", "Antwort: 72",
              "la réponse est 72", "la respuesta es 72", 答えは72; the surest kind first, of one
              kind the last
    quantity  [sign] [currency] number [power of ten] [thousand, million, 万] [unit]
    number    72   1,234.50   1.234,50   1 234,50   1'234.50   12,34,567   3/4   1 3/4   ½   \frac{3}{4}
    no number dates, times, versions, ranges, telephone numbers, ordinals, digits inside words, lists
              (1, 2, 3), and formulas without a result (48 + 24); of an equation the last side counts

One mark before exactly three digits is read as in English: `1,234` is 1234, `1.234` has three decimals.
Where the reference shows the other way itself (1.234,50 or 12,5), an answer may be read that way too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache

from ..errors import RewardError, shorten
from .quantity_chains import Chain, chain_value, find_chains, values
from .quantity_marks import Mark, find_bold, find_marks
from .quantity_scan import Quantity
from .quantity_text import make_plain
from .text import trusted_regex

__all__ = ["Quantity", "is_same", "read_answer", "read_reference"]

_MAX_CHARACTERS = 100_000
_TAIL = 2_000  # where the last quantity is looked for
_PERCENT = frozenset({"%"})
_PARENTHESES = r"(?<=\S) ?\([^()]*\)"
_NAME_OF_ANSWER = (
    r"(?i)[^\p{L}\d]*(?:(?:the )?(?:final )?answer(?: is)?|[\p{L} ]{1,40}[=:])?[^\p{L}\d]*"
)
_BEGINS_BOLD = r"[^\p{L}\d]*|.*[=:]\s*[^\p{L}\d]*"


def read_answer(text: str) -> Quantity | None:
    """Return the quantity that a completion gives as its answer; None where it gives none, or several."""
    text = text[-_MAX_CHARACTERS:]
    for kind in find_marks(text):
        for mark in reversed(kind):
            decided, quantity = _read_mark(mark)
            if decided:
                return quantity
    bold = set(_bold_quantities(text))
    if len(bold) == 1:
        return bold.pop()
    if len(text) > _TAIL:
        text = text[-_TAIL:].partition(" ")[2]
    found = list(values(find_chains(make_plain(text))))
    return found[-1] if found else None


@lru_cache(maxsize=4096)
def read_reference(text: str) -> Quantity:
    """Return the quantity that a reference is, or that it marks as its answer.

    Raises:
        RewardError: There is none, or more than one: nothing of a reference is left out.
    """
    plain = text.rpartition("####")[2].strip()
    if plain.isdecimal() and len(plain) < 10 and text.count("####") < 2:  # most of a large file
        return Quantity(Fraction(int(plain)))
    for kind in find_marks(text):
        marks = [mark for mark in kind if _read_mark(mark)[0]]
        if marks:
            return _single(text, [trusted_regex(_PARENTHESES).sub("", m.text) for m in marks])
    bold = set(_bold_quantities(text))
    return bold.pop() if len(bold) == 1 else _single(text, [text])


def is_same(answer: Quantity, reference: Quantity, tolerance: float = 0.0) -> bool:
    """Tell whether an answer gives the reference's quantity.

    Units are compared where both name one of the table, and never converted. A percent sign on one
    side alone compares the number (75 and 75 %) or the value (0.75 and 75 %).

    Args:
        answer: What was said.
        reference: What is right.
        tolerance: Largest difference that still counts, in the reference's own unit.
    """
    if answer.units and reference.units and not answer.units & reference.units:
        return False
    factors = [Fraction(1)]
    if (answer.units == _PERCENT) != (reference.units == _PERCENT):
        factors.append(Fraction(1, 100) if answer.units == _PERCENT else Fraction(100))
    readings = [answer.value]
    if reference.decimal_comma and answer.other is not None:
        readings.append(answer.other)
    allowed = Fraction(repr(float(tolerance)))  # the decimal that was typed
    return any(abs(r * f - reference.value) <= allowed for r in readings for f in factors)


def _read_mark(mark: Mark) -> tuple[bool, Quantity | None]:
    """Return whether the mark gives an answer, if only a wrong one, and the quantity."""
    plain = make_plain(mark.text)
    chains = [chain for chain in find_chains(plain) if _is_told(chain)]
    if mark.closed:
        return True, _only(chains)
    if not chains:
        return False, None
    before = plain[: chains[0][0][0].start]
    if trusted_regex(_NAME_OF_ANSWER).fullmatch(before):
        return True, chain_value(chains[0])
    # "#### Step 2" is a heading; "the answer is therefore 72" is an answer.
    first = None if mark.heading else next(values(chains), None)
    return first is not None, first


def _bold_quantities(text: str) -> Iterator[Quantity]:
    """Yield what is bold and a quantity by itself, a name before it left aside; no labels of steps."""
    for piece in find_bold(text):
        plain = make_plain(piece)
        chains = find_chains(plain)
        quantity = _only(chains)
        if quantity is None or trusted_regex(r" *\d+[.)](?: ?\p{L}.*)?").fullmatch(plain):
            continue
        if trusted_regex(_BEGINS_BOLD).fullmatch(plain[: chains[0][0][0].start]):
            yield quantity


def _only(chains: Sequence[Chain]) -> Quantity | None:
    """Return the quantity of the only chain that has digits or a formula."""
    told = [chain for chain in chains if _is_told(chain)]
    return chain_value(told[0]) if len(told) == 1 else None


def _is_told(chain: Chain) -> bool:
    return any(item.is_number or not item.text.isascii() for side in chain for item in side)


def _single(text: str, pieces: Sequence[str]) -> Quantity:
    """Return the quantity that all pieces of the reference `text` give."""
    read = [find_chains(make_plain(piece)) for piece in pieces]
    found = [_only(chains) for chains in read]
    first = found[0]
    if first is not None and all(other == first for other in found):
        return first
    count = sum(item.is_number for chain in read[0] for side in chain for item in side)
    what = ("no number", "a number that is no quantity")[count] if count < 2 else "several numbers"
    if len(set(found)) > 1:
        what = "several answers"
    raise RewardError(
        f"the reference {shorten(text)} must be one quantity in the mode numeric. Found {what}; write "
        "the answer alone or after ####, or use the mode contains"
    )
