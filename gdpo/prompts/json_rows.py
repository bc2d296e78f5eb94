"""JSON documents of prompts, one row at a time: an array, objects one after the other, or one with a list in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import PromptError, shorten
from .cursor import Cursor, ManyValuesError, NotJSONError
from .lines import LongLineError, read_blocks
from .values import MAX_COLUMNS, BadRowError, Row, as_row

_MOST_VALUES = 1_000_000  # more than the rows that are read

# Tells by the names in an object whether it is a row of prompts.
IsRow = Callable[[Mapping[str, object]], bool]


@dataclass(frozen=True)
class Outline:
    """What is in a document.

    Attributes:
        shape: "array", "objects" (one after the other, or one alone), or "member" (an object's list).
        member: Name of the list that holds the rows.
        rows: Number of objects and texts that can be rows.
    """

    shape: str
    member: str | None = None
    rows: int = 0


def outline(path: Path, is_row: IsRow) -> Outline:
    """Return what is in a document, after reading all of it, or as much as could be used.

    Raises:
        NotJSONError: It is no JSON document.
        PromptError: The file cannot be read, or several of its lists could be the rows.
    """
    cursor = Cursor(read_blocks(path), _MOST_VALUES)
    try:
        if cursor.peek() == "[":
            rows = sum(isinstance(value, (dict, str)) for value in _array(cursor))
            cursor.end()
            return Outline("array", rows=rows)
        cursor.begin()
        if _is_wrapper(cursor, is_row):
            return _outline_members(cursor, path.name)
        return Outline("objects", rows=sum(1 for _ in _objects(cursor)))
    except (LongLineError, ManyValuesError):
        return Outline("objects" if cursor.first == "{" else "array", rows=1)


def _is_wrapper(cursor: Cursor, is_row: IsRow) -> bool:
    """Tell whether the object that comes next is no row, but has lists of them, or is too long to be one."""
    try:
        first = cursor.value(keep=True)
    except LongLineError:
        return True
    if not isinstance(first, dict) or is_row(first):
        return False
    kinds = (dict, str) if len(first) == 1 else (dict,)  # a list of texts has to be all there is
    return any(_holds(value, kinds) for value in first.values())


def _holds(value: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, list) and any(isinstance(item, kinds) for item in value)


def _outline_members(cursor: Cursor, name: str) -> Outline:
    lists: dict[str, int] = {}
    texts: dict[str, int] = {}
    names: set[str] = set()
    for key, values in _members(cursor):
        if key in names:
            raise PromptError(f"{shorten(name)} names {shorten(key)} twice. Keep one of them.")
        names.add(key)
        found = [isinstance(value, dict) for value in values if isinstance(value, (dict, str))]
        if any(found):
            lists[key] = sum(found)
        elif found:
            texts[key] = len(found)
        if len(names) > MAX_COLUMNS:
            raise PromptError(
                f"{shorten(name)} is one object with more than {MAX_COLUMNS} names; give a list of objects."
            )
    cursor.end()
    if len(lists) > 1:
        shown = " and ".join(map(shorten, list(lists)[:3]))
        raise PromptError(
            f"{shorten(name)} has several lists of rows: {shown}. Save the one to use as a file of its own."
        )
    if not lists and (len(names) > 1 or not texts):
        return Outline("objects", rows=1)
    ((member, rows),) = (lists or texts).items()
    return Outline("member", member, rows)


def json_rows(path: Path, found: Outline) -> Iterator[tuple[int, Row]]:
    """Yield number, from 1, and columns of each row of a document.

    Raises:
        PromptError: The file cannot be read, or is no JSON.
    """
    cursor, number = Cursor(read_blocks(path)), 0
    try:
        for number, value in enumerate(_values(cursor, found), start=1):
            if isinstance(value, BadRowError):
                yield number, value
            else:
                is_text = found.shape != "objects" and isinstance(value, str)
                yield number, {"prompt": value} if is_text else as_row(value)
    except LongLineError as error:
        yield number + 1, BadRowError(f"{error}; the rest of the file was not read")
    except NotJSONError as error:
        raise not_json(error, path.name) from error


def not_json(error: NotJSONError, name: str) -> PromptError:
    """Return the error of a file that should be a JSON document."""
    remedy = "Get the whole file." if error.ended else "Mend the file."
    return PromptError(f"{shorten(name)} is not valid JSON: {error}. {remedy}")


def _values(cursor: Cursor, found: Outline) -> Iterable[object]:
    if found.shape == "array":
        return _array(cursor)
    if found.shape == "objects":
        return _objects(cursor)
    return (value for key, values in _members(cursor) if key == found.member for value in values)


def _objects(cursor: Cursor) -> Iterator[object]:
    """Yield objects that stand one after the other until the end."""
    while cursor.peek() == "{":
        yield cursor.value()
    cursor.end()


def _array(cursor: Cursor) -> Iterator[object]:
    cursor.take("[")
    if cursor.peek() != "]":
        yield cursor.value()
        while cursor.peek() != "]":
            cursor.take(",")
            yield cursor.value()
    cursor.take("]")


def _members(cursor: Cursor) -> Iterator[tuple[str, Iterator[object]]]:
    """Yield the names of an object, each with the values of its list; what is no list has none."""
    cursor.take("{")
    while cursor.peek() == '"':
        key = cursor.value()
        cursor.take(":")
        values = _array(cursor) if cursor.peek() == "[" else _one(cursor)
        yield str(key), values
        deque(values, maxlen=0)  # those for which the caller had no use
        if cursor.peek() != "}":
            cursor.take(",")
            if cursor.peek() == "}":
                cursor.take('"')
    cursor.take("}")


def _one(cursor: Cursor) -> Iterator[object]:
    """Step over a value that is no list."""
    cursor.value()
    yield from ()
