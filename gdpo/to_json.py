"""Values of libraries as plain JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch


def to_json(value: Any) -> Any:
    """`value` as plain JSON: tensors and numbers of libraries become Python's, non-finite ones null."""
    if isinstance(value, torch.Tensor):
        return to_json(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
