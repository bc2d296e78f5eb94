"""What a GGUF file says of itself, read within bounds before any library opens it: it may come from a stranger.

Every length in the file is held against what is left of it, so that no number in it can ask for memory or time. The
layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .cursor import Cursor, HeaderError

# A vocabulary of 262 000 tokens takes 10 MB, with merges and a long chat template twice that.
_MAX_BYTES = 64 * 2**20
_MAX_ENTRIES, _MAX_TENSORS, _MAX_DIMENSIONS = 4096, 65_536, 4
_DEFAULT_ALIGNMENT = 32


class Entry(NamedTuple):
    """Where a key's entry is in the header: its first byte, those of its value, and the value's type."""

    start: int
    value: int
    end: int
    kind: int


class Tensor(NamedTuple):
    """A tensor's place; the shape is as the file has it, the fastest dimension first."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def elements(self) -> int:
        """Number of its weights."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """Everything in a GGUF file but the weights.

    Attributes:
        path: The file.
        bytes: The header as it is in the file.
        entries: Place of each key's value in `bytes`.
        tensors: In the file's order.
        data: Place in the file at which the weights begin; their offsets count from there.
        alignment: Offsets are multiples of this.
    """

    path: Path
    bytes: bytes
    entries: dict[str, Entry]
    tensors: tuple[Tensor, ...]
    data: int
    alignment: int

    def raw(self, key: str) -> bytes:
        """Return the key's whole entry as it is in the file; nothing where there is none."""
        entry = self.entries.get(key)
        return self.bytes[entry.start : entry.end] if entry else b""

    def value(self, key: str, default: Any = None) -> Any:
        """Return the key's value: a number, a text, or a list of one of them."""
        entry = self.entries.get(key)
        return default if entry is None else Cursor(self.bytes, entry.value).value(entry.kind)

    def text(self, key: str) -> str:
        """Return the key's text; an empty one where there is none or something else."""
        value = self.value(key)
        return value if isinstance(value, str) else ""

    @property
    def architecture(self) -> str:
        """Llama.cpp's name of the model's architecture."""
        return self.text("general.architecture")

    def of_architecture(self, name: str, default: Any = None) -> Any:
        """Return the value of `<architecture>.<name>`."""
        return self.value(f"{self.architecture}.{name}", default)

    @property
    def weights(self) -> int:
        """Number of weights in all tensors."""
        return sum(tensor.elements for tensor in self.tensors)


def read_header(path: Path, start: bytes, size: int) -> Header:
    """Read the header of a GGUF file.

    Args:
        path: The file, for whoever reads its weights.
        start: Its first bytes, `header_bytes()` of them or all.
        size: Bytes of the whole file.

    Raises:
        HeaderError: It is no GGUF file, damaged, or asks for more than a model has.
    """
    cursor = Cursor(start, 0, whole=size <= len(start))
    if cursor.take(4) != b"GGUF":
        raise HeaderError(f"it is no GGUF file (it starts with {start[:4]!r})")
    version = cursor.number("I")
    if version not in (2, 3):
        swapped = version in (2 << 24, 3 << 24)
        reason = "big-endian" if swapped else f"of version {version}"
        raise HeaderError(f"it is a GGUF file {reason}, and little-endian ones of 2 and 3 are read")
    tensors, entries = cursor.number("Q"), cursor.number("Q")
    if tensors > _MAX_TENSORS or entries > _MAX_ENTRIES:
        raise HeaderError(f"it says that it has {tensors} tensors and {entries} entries")
    found = _read_entries(cursor, entries)
    infos = tuple(_read_tensors(cursor, tensors))
    alignment = _DEFAULT_ALIGNMENT
    if "general.alignment" in found:
        entry = found["general.alignment"]
        alignment = Cursor(start, entry.value).value(entry.kind)
    if type(alignment) is not int or not 8 <= alignment <= 2**16 or alignment & (alignment - 1):
        raise HeaderError(f"its alignment should be a power of two. Found {str(alignment)[:40]}")
    data = -(-cursor.at // alignment) * alignment
    return Header(path, start[: cursor.at], found, infos, data, alignment)


def header_bytes() -> int:
    """Return how many bytes of a file `read_header` wants at most."""
    return _MAX_BYTES


def _read_entries(cursor: Cursor, count: int) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for _ in range(count):
        start = cursor.at
        key = cursor.text()
        kind = cursor.number("I")
        value = cursor.at
        cursor.skip(kind)
        if key in found:
            raise HeaderError(f"it has two entries {key[:80]!r}")
        found[key] = Entry(start, value, cursor.at, kind)
    return found


def _read_tensors(cursor: Cursor, count: int) -> Iterator[Tensor]:
    names = set()
    for _ in range(count):
        name, dimensions = cursor.text(), cursor.number("I")
        if not name or name in names or dimensions > _MAX_DIMENSIONS:
            raise HeaderError(f"its table of tensors is damaged at {name[:80]!r}")
        names.add(name)
        shape = tuple(cursor.number("Q") for _ in range(dimensions))
        yield Tensor(name, shape, cursor.number("I"), cursor.number("Q"))
