"""The state of an optimiser as named tensors and numbers, which safetensors and JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def flatten(slots: dict[int, dict[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's state as tensors and numbers, named by the path to them; 8-bit states are nested."""
    flat: dict[str, Any] = {}

    def add(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                add(f"{path}.{name}", item)
        else:
            flat[path] = value

    for index, slot in slots.items():
        add(str(index), slot)
    tensors = {
        key: value.detach().cpu().contiguous().clone()
        for key, value in flat.items()
        if isinstance(value, Tensor)
    }
    return tensors, {key: value for key, value in flat.items() if key not in tensors}


def unflatten(tensors: dict[str, Tensor], numbers: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The optimiser's state from what `flatten` gave."""
    slots: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        index, *path, name = key.split(".")
        place = slots.setdefault(int(index), {})
        for part in path:
            place = place.setdefault(part, {})
        place[name] = value
    return slots
