"""What a model's files of weights hold, by their headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import PolicyError, shorten


@dataclass(frozen=True)
class WeightFiles:
    """What all files hold together.

    Attributes:
        shapes: Shape of each tensor, by its name.
        kinds: Type of each tensor's numbers, such as F16.
        weights: Number of weights; of packed ones as many as there could be.
        bytes: Size on the disk.
    """

    shapes: Mapping[str, tuple[int, ...]]
    kinds: Mapping[str, str]
    weights: int
    bytes: int


def read_weight_files(folder: Path) -> WeightFiles:
    """Read the headers of all safetensors files in a folder.

    Raises:
        PolicyError: One of them cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    kinds: dict[str, str] = {}
    weights = size = 0
    for file in sorted(folder.glob("*.safetensors")):
        try:
            size += file.stat().st_size
            with safe_open(str(file), framework="np") as opened:
                for name in opened.keys():  # noqa: SIM118  it is no dict
                    part = opened.get_slice(name)
                    shapes[name], kinds[name] = tuple(part.get_shape()), part.get_dtype()
                    weights += _count(part.get_shape(), part.get_dtype())
        except (OSError, SafetensorError) as error:
            raise PolicyError(
                f"The model of {str(folder)!r} cannot be loaded: {file.name!r} is no whole file of weights "
                f"({shorten(str(error))}); get the original file."
            ) from error
    return WeightFiles(shapes, kinds, weights, size)


def _count(shape: list[int], dtype: str) -> int:
    """Return how many weights a tensor may hold: libraries pack two of four bits into each byte of an integer."""
    elements = math.prod(shape)
    if not dtype.startswith(("I", "U")):
        return elements
    return elements * int("".join(filter(str.isdigit, dtype))) // 4
