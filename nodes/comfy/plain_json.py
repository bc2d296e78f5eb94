"""Makes values plain enough for ComfyUI's page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def plain_json(value: object) -> Any:
    """`value` as plain JSON: tensors and numpy values become numbers and lists, non-finite numbers None.

    Anything else that JSON does not know becomes its text: a tensor or a NaN that reaches ComfyUI's publishing loop
    ends the server. `gdpo.to_json` is for files, where an unknown value should be an error instead.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return (
            (int(value) if isinstance(value, int) else float(value))
            if math.isfinite(value)
            else None
        )
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_json(item) for item in value]
    to_list = getattr(value, "tolist", None)  # tensors, numpy arrays and numpy scalars
    return plain_json(to_list()) if callable(to_list) else str(value)
