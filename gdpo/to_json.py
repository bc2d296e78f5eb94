"""Values of Python and of libraries as plain JSON."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from enum import Enum
from numbers import Real
from typing import Any


def to_json(value: object) -> Any:
    """Return `value` as plain JSON, which any reader of JSON takes.

    Tensors, numpy arrays and numbers of libraries become lists and numbers, enumerations their values, sets sorted
    lists. Numbers that are not finite, or too large for a float, become None: JSON has no name for the first, and
    most readers take the second for the first. All else becomes its text.
    """
    if isinstance(value, Enum):
        return to_json(value.value)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) <= sys.float_info.max else None
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(to_json, value), key=str)
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    to_list = getattr(value, "tolist", None)  # of tensors, numpy arrays and numpy's numbers
    if not callable(to_list):
        return str(value)
    plain = to_list()
    if type(plain) is not type(value):
        return to_json(plain)
    # Python has no equal of its type, such as numpy's long double.
    return to_json(float(plain)) if isinstance(plain, Real) else str(plain)
