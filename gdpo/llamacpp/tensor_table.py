"""The table of tensors in a GGUF file, read without its vocabulary.

The gguf library makes several objects for each word of a vocabulary: 15 seconds of computing for 262 000 of them. The
layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

from ..plain_files import open_plain

# A vocabulary of 262 000 tokens takes 10 MB, with merges and a long chat template twice that.
_MAX_BYTES = 64 * 2**20
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_ALIGNMENT = "general.alignment"


class Tensor(NamedTuple):
    """A tensor's name, its shape with the row length first, the name of its type, and where its bytes are in the file."""

    name: str
    shape: tuple[int, ...]
    type: str
    start: int
    bytes: int

    @property
    def weights(self) -> int:
        """Number of its weights."""
        return math.prod(self.shape)


def read_table(path: Path) -> tuple[Tensor, ...]:
    """Return the tensors of a file in its order.

    Raises:
        ValueError: It is no GGUF file, or damaged.
        OSError: It cannot be read.
    """
    with open_plain(path) as file:
        data = file.read(_MAX_BYTES)
    try:
        return _read(data)
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is no whole GGUF file ({error})") from error


def _read(data: bytes) -> tuple[Tensor, ...]:
    magic, version, count, entries = struct.unpack_from("<4sIQQ", data, 0)
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError(f"no GGUF file of version 2 or 3: it starts with {data[:8]!r}")
    at, alignment = struct.calcsize("<4sIQQ"), 32
    for _ in range(entries):
        key, at = _text(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        if key == _ALIGNMENT:
            (alignment,) = struct.unpack_from("<I", data, at + 4)
        at = _skip(data, at + 4, kind)
    found = []
    for _ in range(count):
        name, at = _text(data, at)
        (dimensions,) = struct.unpack_from("<I", data, at)
        numbers = struct.unpack_from(f"<{dimensions}QIQ", data, at + 4)
        at += 4 + 8 * dimensions + 12
        found.append((name, numbers[:-2], *numbers[-2:]))
    start = -(-at // alignment) * alignment
    return tuple(_tensor(name, shape, kind, start + place) for name, shape, kind, place in found)


def _tensor(name: str, shape: tuple[int, ...], kind: int, start: int) -> Tensor:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    named: Any = GGMLQuantizationType(kind)
    block, size = GGML_QUANT_SIZES[named]
    return Tensor(name, shape, named.name, start, math.prod(shape) // block * size)


def _text(data: bytes, at: int) -> tuple[str, int]:
    start, end = at + 8, _end_of_text(data, at)
    return data[start:end].decode("utf-8"), end


def _end_of_text(data: bytes, at: int) -> int:
    (length,) = struct.unpack_from("<Q", data, at)
    return at + 8 + length


def _skip(data: bytes, at: int, kind: int) -> int:
    """Return the place behind a value of a type."""
    if kind == _STRING:
        return _end_of_text(data, at)
    if kind != _ARRAY:
        return at + _SIZES[kind]
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner != _STRING:
        return at + count * _SIZES[inner]
    for _ in range(count):
        at = _end_of_text(data, at)
    return at
