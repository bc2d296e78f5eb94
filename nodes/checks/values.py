"""What a node accepts as the value of an input: the one check for files, widgets and links.

ComfyUI converts where it can and looks away where it cannot: text passes unchecked, NaN passes
every range, "5" is a number and a linked value is not checked at all. Here a value is either what
the input declares or it is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...gdpo.errors import WorkflowError, shorten

MAX_TEXT = 1_000_000  # characters; a prompt or message beyond that is a mistake or an attack
_LISTED = 60  # choices that a message may name, and the characters that it has for them
_LISTED_CHARACTERS = 250
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})

InputType = str | Sequence[object]
Check = Callable[[Mapping[str, object], object], object]


def split_types(kind: InputType) -> frozenset[str]:
    """Return the single types of a socket: `"INT,FLOAT"` has two, a list of choices is a combo."""
    if not isinstance(kind, str):
        return frozenset({"COMBO"})
    return frozenset(part.strip() for part in kind.split(","))


def links_to(given: InputType, wanted: InputType) -> bool:
    """Tell whether an output of type `given` may be linked to an input of type `wanted`."""
    have, need = split_types(given), split_types(wanted)
    return bool(have & need) or "*" in have | need


def check_value(kind: InputType, options: Mapping[str, object], value: object) -> object:
    """Return the value as the node gets it.

    Args:
        kind: declared type of the input; a list holds the choices of a combo.
        options: declared options of the input (`min`, `max`, `options`).
        value: what the file, the widget or the link holds.

    Returns:
        `value`, as an int where a whole float was given for an INT, as a float for a FLOAT and as
        text where a number was given for a STRING.

    Raises:
        WorkflowError: the value does not fit; the message does not name the input.
    """
    if not isinstance(kind, str) or kind == "COMBO":
        choices: Any = options["options"] if isinstance(kind, str) else kind
        return _check_choice(choices, value)
    types = split_types(kind)
    if "*" in types:
        return value
    checks = [_CHECKS[name] for name in ("BOOLEAN", "INT", "FLOAT", "STRING") if name in types]
    if not checks:
        raise WorkflowError(f"needs a link from an output of type {kind}, found {shorten(value)}")
    return _first_that_takes(checks, options, value)


def _first_that_takes(
    checks: Sequence[Check], options: Mapping[str, object], value: object
) -> object:
    """Check a value against a union of types, which takes what any of them takes; the last one's complaint is reported."""
    try:
        return checks[0](options, value)
    except WorkflowError:
        if len(checks) == 1:
            raise
        return _first_that_takes(checks[1:], options, value)


def _check_choice(choices: Sequence[object], value: object) -> object:
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        listed = ", ".join(map(str, choices[:_LISTED])) or "(nothing to choose from)"
        cut = len(listed) > _LISTED_CHARACTERS or len(choices) > _LISTED
        listed = f"{listed[: _LISTED_CHARACTERS - 1]}…" if cut else listed
        raise WorkflowError(f"{shorten(value)} is not one of: {listed}")
    return value


def _check_boolean(_options: Mapping[str, object], value: object) -> bool:
    if not isinstance(value, bool):
        raise WorkflowError(f"must be true or false, found {shorten(value)}")
    return value


def _check_int(options: Mapping[str, object], value: object) -> int:
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise WorkflowError(f"must be a whole number, found {shorten(value)}")
    _check_range(options, number)
    return number


def _check_float(options: Mapping[str, object], value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WorkflowError(f"must be a number, found {shorten(value)}")
    try:
        number = float(value)
    except OverflowError as error:
        raise WorkflowError(f"must be a finite number, found {shorten(value)}") from error
    if not math.isfinite(number):
        raise WorkflowError(f"must be a finite number, found {number}")
    _check_range(options, number)
    return number


def _check_range(options: Mapping[str, Any], number: float) -> None:
    low, high = options.get("min"), options.get("max")
    if low is not None and number < low:
        raise WorkflowError(f"{shorten(number)} is below the minimum {low}")
    if high is not None and number > high:
        raise WorkflowError(f"{shorten(number)} is above the maximum {high}")


def _check_string(_options: Mapping[str, object], value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = _as_text(value)
    if not isinstance(value, str):
        raise WorkflowError(f"must be text, found {shorten(value)}")
    if len(value) > MAX_TEXT:
        raise WorkflowError(f"has {len(value)} characters, at most {MAX_TEXT} are taken")
    if _UNUSABLE.search(value):
        raise WorkflowError(f"holds NUL or half a surrogate pair: {shorten(value)}")
    return value


def _as_text(number: float) -> str:
    try:
        return str(number)
    except ValueError as error:  # Python refuses to write thousands of digits
        raise WorkflowError(f"must be text, found {shorten(number)}") from error


_CHECKS = {
    "BOOLEAN": _check_boolean,
    "INT": _check_int,
    "FLOAT": _check_float,
    "STRING": _check_string,
}
