"""What belongs together among the numbers of a text: equations, sums, lists; and the number they come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from .quantity_scan import LETTER, Item, Quantity, find_items
from .quantity_text import OPAQUE
from .text import trusted_regex

Chain = Sequence[Sequence[Item]]  # the sides of an equation, each with its items


_AND = "and|or|und|oder|et|ou|y|o"


def find_chains(text: str) -> Sequence[Chain]:
    """Return the items by what belongs together: chains of sides of an equation, each with its items."""
    chains: list[list[list[Item]]] = []
    before: Item | None = None
    for item in find_items(text):
        link = "" if before is None else _link(text, before, item)
        if not link or (link == "," and len(chains[-1][-1]) == 1 and _begins_clause(text, item)):
            chains.append([[item]])
        elif link == "=":
            chains[-1].append([item])
        else:
            chains[-1][-1].append(item)
        before = item
    return chains


def chain_value(chain: Chain) -> Quantity | None:
    """Return the last side that is one number: 72 in `48 + 24 = 72`. None in `48 + 24` and in `1, 2, 3`."""
    single = [side[0].quantity for side in chain if len(side) == 1 and side[0].quantity]
    return single[-1] if single else None


def values(chains: Sequence[Chain]) -> Iterator[Quantity]:
    """Yield the quantities of chains."""
    for chain in chains:
        value = chain_value(chain)
        if value is not None:
            yield value


@cache
def _links() -> tuple[Any, Any, Any]:
    word = rf"(?:[ ]?{LETTER}++)"
    joined = rf",|;|、|と|か|または|&|\b(?:{_AND})\b"
    return (
        trusted_regex(rf"{word}{{0,3}}[\s)\]]*[=→]+[\s(\[]*(?:{LETTER}+ )?"),
        trusted_regex(rf"(?:{word}?[ )\]]*[+*/×÷·^]|[ )\]]*-)[ (\[]*"),
        trusted_regex(rf"(?i)[ )\]]*(?:{joined})(?: ?(?:{joined}))?[ (\[]*"),
    )


def _link(text: str, before: Item, item: Item) -> str:
    """Return how two neighbours belong together: "=" equation, "+" sum or formula, "," list, "" not at all."""
    gap = text[before.end : item.start]
    if len(gap) > 60:
        return ""
    equals, operator, listed = _links()
    formula = before.text[-1:] in OPAQUE + "π∞" or item.text[:1] in OPAQUE + "π∞"
    if equals.fullmatch(gap):
        return "="
    if operator.fullmatch(gap) or (formula and gap.strip() == "" and len(gap) < 2):
        return "+"
    if listed.fullmatch(gap) and before.text[-1:].isdigit() and item.text[:1].isdigit():
        return "," if gap == ", " else "+"
    return ""


def _begins_clause(text: str, item: Item) -> bool:
    """Tell whether a word follows: "In 2024, 72 clips" are two things, "3, 4" is a list."""
    word = rf" ?(?!(?:{_AND})\b)(?:{LETTER}{{2,}}|[\p{{Han}}\p{{Hiragana}}\p{{Katakana}}])"
    return trusted_regex(rf"(?i){word}").match(text, item.end) is not None
