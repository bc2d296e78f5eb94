"""Parses JSON of strangers: strict, and within bounds."""

from __future__ import annotations

import json

from ...gdpo.errors import shorten
from ...gdpo.strict_json import finite_float, refuse_constant

MAX_DEPTH = 64  # of brackets in each other; a workflow needs four
MAX_DIGITS = 400  # of a whole number; more are no float either


def parse_json(text: str) -> object:
    """Return the value that the text holds.

    Args:
        text: from anybody.

    Raises:
        ValueError: it is not JSON, one object has a name twice, a number is too large, or brackets
            are nested too deeply. The message says which, on one line.
    """
    try:
        value = json.loads(
            text,
            parse_constant=refuse_constant,
            parse_int=_read_int,
            parse_float=finite_float,
            object_pairs_hook=_refuse_doubles,
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    _check_depth(value)
    return value


def _check_depth(value: object) -> None:
    """Refuse what later readers, which call themselves for each level, could not follow."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [one for one in level if isinstance(one, (dict, list))]
        if not level:
            return
        level = [
            inner for one in level for inner in (one.values() if isinstance(one, dict) else one)
        ]
    raise ValueError("nested too deeply")


def _read_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits, at most {MAX_DIGITS} are taken")
    return int(digits)


def _refuse_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{shorten(name)} stands twice in one object")
        found[name] = value
    return found
