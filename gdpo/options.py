"""Typed, documented settings: a field of a frozen dataclass is a setting and a node input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

from .errors import GDPOError, RewardError, shorten

Value = bool | int | float | str

# Settings come from workflow files of strangers; no honest one is longer than this.
MAX_TEXT_CHARACTERS = 20_000


@dataclass(frozen=True)
class Option:
    """What an interface needs to offer one setting. `type` is bool, int, float or str."""

    name: str
    type: type
    default: Value
    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] | None = None
    multiline: bool = False


def option(
    default: Value,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
    choices: Sequence[str] | None = None,
    multiline: bool = False,
) -> Any:
    """Return a dataclass field that carries its own documentation and limits.

    Args:
        default: Decides the type of the setting: bool, int, float or str.
        help: Unit and effect in a sentence or two; interfaces show it as the tooltip.
        minimum: Smallest allowed number, included.
        maximum: Largest allowed number, included.
        step: Amount by which one click in an interface moves the number.
        choices: The only allowed texts, in menu order.
        multiline: True if the text deserves a box of several lines.
    """
    metadata = {
        "help": help,
        "minimum": minimum,
        "maximum": maximum,
        "step": step,
        "choices": None if choices is None else tuple(choices),
        "multiline": multiline,
    }
    return field(default=default, metadata=metadata)


def describe(owner: type) -> tuple[Option, ...]:
    """Return the settings of a dataclass whose fields were made by `option`, in their order."""
    return tuple(
        Option(item.name, type(item.default), cast(Value, item.default), **item.metadata)
        for item in fields(owner)
        if "help" in item.metadata
    )


def check_options(owner: Any, error: type[GDPOError] = RewardError) -> None:
    """Compares every setting of a dataclass instance with what its `option` allows.

    Raises:
        error: A setting has the wrong type, is not finite, out of range, not among its choices, or
            a text that is too long. The message names the setting, the value and what is allowed.
    """
    for item in describe(type(owner)):
        problem = _problem(item, getattr(owner, item.name))
        if problem:
            found = shorten(getattr(owner, item.name))
            raise error(f"{type(owner).__name__}: `{item.name}` {problem}. Found {found}.")


def _problem(item: Option, value: object) -> str:
    """Return what is wrong with `value` as the setting `item`; empty when nothing is."""
    if not _has_type(value, item.type):
        return f"must be of type {item.type.__name__}"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if item.choices is not None and value not in item.choices:
        return f"must be one of {', '.join(map(repr, item.choices))}"
    if isinstance(value, str):
        too_long = len(value) > MAX_TEXT_CHARACTERS
        return f"must have at most {MAX_TEXT_CHARACTERS} characters" if too_long else ""
    number = cast(float, value)
    if item.minimum is not None and number < item.minimum:
        return f"must be at least {item.minimum}"
    if item.maximum is not None and number > item.maximum:
        return f"must be at most {item.maximum}"
    return ""


def _has_type(value: object, wanted: type) -> bool:
    """Like isinstance, but a bool is no number, and a whole number is a good float."""
    if wanted is bool or isinstance(value, bool):
        return wanted is bool and isinstance(value, bool)
    return isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
