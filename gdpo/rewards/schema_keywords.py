"""Keywords of JSON schema that jsonschema's own functions are unsafe for: on what a model wrote they take too long or fail."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

from .bounded_regex import compile_pattern, search


def match_pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    """Check `pattern` with a time limit, which `re` does not have."""
    from jsonschema import ValidationError

    if validator.is_type(instance, "string") and not search(_compiled(pattern), instance):
        yield ValidationError("does not match the pattern")


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> Any:
    return compile_pattern(pattern)


def unique_items(validator: Any, unique: bool, instance: Any, _schema: Any) -> Iterator[Any]:
    """Check `uniqueItems` in linear time; jsonschema takes quadratic time on objects."""
    from jsonschema import ValidationError

    if unique and validator.is_type(instance, "array"):
        seen = {json.dumps(_canonical(item), sort_keys=True) for item in instance}
        if len(seen) < len(instance):
            yield ValidationError("has equal items")


def _canonical(value: Any) -> Any:
    """`value` with whole floats as ints, because JSON schema takes 1 and 1.0 as equal."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def multiple_of(validator: Any, divisor: float, instance: Any, _schema: Any) -> Iterator[Any]:
    """Check `multipleOf` for every number; jsonschema raises on numbers that a float cannot hold."""
    from jsonschema import ValidationError

    if validator.is_type(instance, "number") and not _divides(divisor, instance):
        yield ValidationError("is not a multiple")


def _divides(divisor: float, number: float) -> bool:
    if isinstance(number, float) and not math.isfinite(number):
        return False  # it was written as 1e999, say; which number it was is lost
    if isinstance(divisor, int) and isinstance(number, int):
        return number % divisor == 0
    try:
        quotient = number / divisor  # as jsonschema: 0.3 / 0.1 is not whole, nor is 4.02 / 0.01
        return int(quotient) == quotient
    except OverflowError:
        return (Fraction(number) / Fraction(divisor)).denominator == 1
