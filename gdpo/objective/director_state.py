"""Reads the director's state in a checkpoint, which may come from anybody."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import TrainingError, shorten


def read_tensor(state: dict[str, Any], name: str, *shape: int) -> Tensor:
    """Return an entry of a state as a tensor of this shape; NaN is null in JSON."""
    try:
        found = torch.tensor(_with_nan(state[name]), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # RecursionError, too
        raise bad_entry(name, f"numbers of shape {shape}", state[name]) from error
    if found.shape != shape or found.isinf().any():
        raise bad_entry(name, f"finite numbers of shape {shape}", state[name])
    return found


def read_share(state: dict[str, Any], name: str, default: float) -> float:
    """Return an entry of a state that is a number from 0 to 1; the default where it is absent."""
    found = state.get(name, default)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found <= 1:
        raise bad_entry(name, "a number from 0 to 1", found)
    return float(found)


def _with_nan(values: Any) -> Any:
    if isinstance(values, list):
        return [_with_nan(value) for value in values]
    return float("nan") if values is None else values


def bad_entry(name: str, wanted: str, found: Any) -> TrainingError:
    """Return the error of an entry that is not as it should be."""
    return TrainingError(
        f"A checkpoint's {name!r} should be {wanted}. Found {shorten(found)}; start a new run."
    )
