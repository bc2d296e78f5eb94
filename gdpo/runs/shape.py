"""Values from files, checked against the type that says what they hold.

A file of a run may have been cut off, edited or made up. What passes here can be read by key without a further look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, get_args, get_origin, get_type_hints, is_typeddict

from ..errors import shorten

# A number of a record: null where it was not finite or nothing was measured.
Number = float | None
# A number of a record that is 0 or more, such as a deviation.
Size = Annotated[float | None, "0 or more"]
# Larger numbers are refused: sums and squares of them would not be finite.
LARGEST_NUMBER = 1e100
# Larger whole numbers are refused: the page could not tell them apart.
LARGEST_COUNT = 2**53

Check = Callable[[Any], Any]


class MisfitError(Exception):
    """A value is not of its type; the message says what should be where, and what was found."""

    def __init__(self, wanted: str, found: object, path: Sequence[str] = ()) -> None:
        super().__init__()
        self.wanted, self.found = wanted, found
        self.path = list(path)  # keys from the outside to the value

    def __str__(self) -> str:
        place = f"the value of {shorten('.'.join(self.path))}" if self.path else "it"
        return f"{place} should be {self.wanted}. Found {shorten(self.found)}"


def checker(kind: Any) -> Check:
    """Return the function that gives a JSON value as a `kind`, without keys that the kind does not know.

    Args:
        kind: A `TypedDict`, `dict[str, kind]`, `list[kind]`, `Number`, `Size`, `float`, `int` (not negative), `bool`, `str` or `Any`.

    Returns:
        A function of the value that raises `MisfitError`.
    """
    if is_typeddict(kind):
        fields = {
            name: checker(hint) for name, hint in get_type_hints(kind, include_extras=True).items()
        }
        return partial(_check_fields, fields, kind.__required_keys__)
    if get_origin(kind) is dict:
        return partial(_check_entries, checker(get_args(kind)[1]))
    if get_origin(kind) is list:
        return partial(_check_items, checker(get_args(kind)[0]))
    return _SIMPLE[kind]


def _check_fields(fields: Mapping[str, Check], required: frozenset[str], value: Any) -> Any:
    if not isinstance(value, dict):
        raise MisfitError("an object", value)
    missing = sorted(required - value.keys())
    if missing:
        raise MisfitError(f"an object with the key {missing[0]!r}", value)
    return {name: _below(name, fields[name], value[name]) for name in fields if name in value}


def _check_entries(check: Check, value: Any) -> Any:
    if not isinstance(value, dict):
        raise MisfitError("an object", value)
    return {name: _below(name, check, item) for name, item in value.items()}


def _check_items(check: Check, value: Any) -> Any:
    if not isinstance(value, list):
        raise MisfitError("a list", value)
    return [_below(str(place), check, item) for place, item in enumerate(value)]


def _below(name: str, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except MisfitError as error:
        error.path.insert(0, name)
        raise


def _check_number(value: Any) -> float | None:
    return None if value is None else _check_float(value)


def _check_size(value: Any) -> float | None:
    if value is None or _check_float(value) >= 0:
        return value
    raise MisfitError("null or a number, 0 or more", value)


def _check_float(value: Any) -> float:
    if _is_number(value) and -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
        return value
    raise MisfitError(f"a number, {LARGEST_NUMBER:g} at most", value)


def _check_count(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT:
        return value
    raise MisfitError("a whole number, 0 or more", value)


def _check_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise MisfitError("true or false", value)


def _check_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise MisfitError("a text", value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_SIMPLE: Mapping[Any, Check] = {
    Number: _check_number,
    Size: _check_size,
    float: _check_float,
    int: _check_count,
    bool: _check_bool,
    str: _check_text,
    Any: lambda value: value,
}
