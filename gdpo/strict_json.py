"""Numbers of JSON that Python's reader would take and nobody else does; for the hooks of `json.loads`."""

from __future__ import annotations

import math
from typing import NoReturn

from .errors import shorten


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, as `parse_constant`.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{name} is not a JSON number")


def finite_float(digits: str) -> float:
    """Return a number with a fraction or an exponent, as `parse_float`.

    Raises:
        ValueError: It is too large for a float.
    """
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {shorten(digits, 30)} is too large for a float")
    return value
