"""Values of a GGUF file one after the other: each length is held against what is left, before anything is made of it."""

from __future__ import annotations

import struct
from typing import Any

_MAX_VALUES = 4_000_000
_STRING, _ARRAY = 8, 9
_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}


class HeaderError(ValueError):
    """The file is no whole GGUF file; the message says why, without the file's name."""


class Cursor:
    """Reads values one after the other, and nothing beyond the bytes that there are."""

    def __init__(self, data: bytes, at: int, *, whole: bool = True) -> None:
        self._data, self.at, self._whole, self._values = data, at, whole, 0

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        self.at = self._after(count)
        return self._data[self.at - count : self.at]

    def _after(self, count: int) -> int:
        end = self.at + count
        if end > len(self._data):
            cut = "it ends in the middle of its header" if self._whole else "its header is too long"
            raise HeaderError(f"{cut}; download it again")
        return end

    def number(self, form: str) -> Any:
        """Return the next number of this `struct` format."""
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def text(self) -> str:
        """Return the next text."""
        try:
            return self.take(self.number("Q")).decode("utf-8")
        except UnicodeDecodeError:
            raise HeaderError("one of its texts is no UTF-8") from None

    def value(self, kind: int) -> Any:
        """Return the next value of a type."""
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_NUMBERS[kind])
        inner, count = self._array()
        if inner == _STRING:
            return [self.text() for _ in range(count)]
        form = f"{count}{_NUMBERS[inner]}"
        return list(struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}"))))

    def skip(self, kind: int) -> None:
        """Pass the next value of a type, and refuse one that could not be read."""
        if kind == _STRING:
            self.text()
        elif kind in _NUMBERS:
            self.number(_NUMBERS[kind])
        elif kind == _ARRAY:
            inner, count = self._array()
            if inner == _STRING:
                for _ in range(count):
                    self.text()
            else:
                self.at = self._after(count * struct.calcsize(f"<{_NUMBERS[inner]}"))
        else:
            raise HeaderError(f"it has a value of the unknown type {kind}")

    def _array(self) -> tuple[int, int]:
        inner, count = self.number("I"), self.number("Q")
        self._values += count
        if (inner != _STRING and inner not in _NUMBERS) or self._values > _MAX_VALUES:
            raise HeaderError(f"it has a list of {count} values of type {inner}")
        return inner, count
