"""Values of prompt files: strict JSON, and bounds on what one row may hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from ..errors import shorten
from ..strict_json import finite_float, refuse_constant

MAX_COLUMNS = 1_000
MAX_DEPTH = 64


class BadRowError(Exception):
    """One row cannot be used; the message says why, without file and line."""

    def alone(self) -> BadRowError:
        """Return the same error without its traceback, which would keep the row in memory."""
        return BadRowError(str(self))


# A row that a reader could not even take apart travels as its BadRowError, so that one place
# counts them all.
Row = Mapping[str, object] | BadRowError


def count_values(row: Mapping[str, object]) -> int:
    """Return the number of values in a row, those inside lists and objects too.

    Raises:
        BadRowError: There are too many columns, or too many lists and objects in each other.
    """
    if len(row) > MAX_COLUMNS:
        raise BadRowError(f"has {len(row)} columns; at most {MAX_COLUMNS} are allowed")
    count, depth, level = len(row), 0, _containers(row.values())
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise BadRowError("nested too deeply")
        count += sum(map(len, level))
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = _containers(value for values in inner for value in values)
    return count


def _containers(values: Iterable[object]) -> list[dict | list]:
    return [value for value in values if isinstance(value, (dict, list))]


def parse_row(content: str) -> Row:
    """Return the JSON object that a line holds, or why it is none."""
    try:
        row = DECODER.decode(content)
        check_surrogates(content, row)
    except json.JSONDecodeError as error:
        return BadRowError(f"not valid JSON ({error.msg} at column {error.colno})")
    except (BadRowError, RecursionError, ValueError) as error:
        return bad_json(error)
    return as_row(row)


def as_row(value: object) -> Row:
    """Return the value as a row, or why it is none."""
    if isinstance(value, dict):
        return value
    return BadRowError(f'must be a JSON object like {{"prompt": "..."}}. Found {shorten(value)}')


def bad_json(error: Exception) -> BadRowError:
    """Return why a value that is JSON by its form cannot be used."""
    if isinstance(error, BadRowError):
        return error.alone()
    if isinstance(error, RecursionError):
        return BadRowError("nested too deeply")
    return BadRowError(f"not usable ({error})")


def check_surrogates(content: str, value: object) -> None:
    """Refuse half of a surrogate pair, which an escape can write but no tokenizer or file can take.

    Raises:
        BadRowError: There is one.
    """
    if "\\u" not in content:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRowError("holds half of a surrogate pair, which is not text") from error


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise BadRowError(f"names {shorten(twice)} twice")
    return found


DECODER = json.JSONDecoder(
    parse_constant=refuse_constant,
    parse_float=finite_float,
    object_pairs_hook=_without_doubles,
)
# Finds where a value ends whose content cannot be used.
SKIPPER = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=len)
