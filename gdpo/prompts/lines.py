"""Lines of a prompt file, one at a time: a file from a stranger is never in memory as a whole."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import PromptError, shorten
from ..plain_files import PlainFileError, open_plain
from .file_bytes import not_utf8

MAX_FILE_BYTES = 64 * 2**20
MAX_ROW_CHARACTERS = 1_000_000
# More lines than rows: texts have empty lines between them, and cells of tables have several.
MAX_LINES = 5_000_000
_BLOCK_CHARACTERS = 2**18


class LongLineError(Exception):
    """A line is longer than `MAX_ROW_CHARACTERS`."""

    def __str__(self) -> str:
        return f"longer than {MAX_ROW_CHARACTERS} characters"


# Number and text of each line.
Lines = Iterable[tuple[int, str | LongLineError]]


def read_lines(path: Path) -> Iterator[tuple[int, str | LongLineError]]:
    r"""Yield number and text of each line of a file in UTF-8, all line ends as "\n".

    Of a line that is too long no more is held than the limit, and its error comes in its place.

    Raises:
        PromptError: The file is absent, too large or not UTF-8.
    """
    with opened(path) as raw, _decoded(raw) as text:
        yield from _lines(text, shorten(path.name))


def read_blocks(path: Path) -> Iterator[str]:
    r"""Yield the text of a file in UTF-8, some of it at a time, all line ends as "\n".

    Raises:
        PromptError: The file is absent, too large or not UTF-8.
    """
    name, number, size = shorten(path.name), 1, 0
    with opened(path) as raw, _decoded(raw) as text:
        while block := text.read(_BLOCK_CHARACTERS):
            size += len(block)
            _check_text(block, number, name)
            if size > MAX_FILE_BYTES:  # it has grown meanwhile
                raise _too_large(name, f"{MAX_FILE_BYTES // 2**20} MiB")
            number += block.count("\n")
            yield block


def read_head(path: Path, size: int) -> bytes:
    """Return the first bytes of a file, at most so many.

    Raises:
        PromptError: The file is absent or too large.
    """
    with opened(path) as raw:
        return raw.read(size)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a prompt file, and turn what a disk raises inside the block into one line with the remedy.

    Raises:
        PromptError: The file is absent, too large, or cannot be read.
    """
    name = shorten(path.name)
    try:
        with open_plain(path) as raw:
            if os.fstat(raw.fileno()).st_size > MAX_FILE_BYTES:
                raise _too_large(name, f"{MAX_FILE_BYTES // 2**20} MiB")
            yield raw
    except (FileNotFoundError, NotADirectoryError, PlainFileError, ValueError) as error:
        reason = f" ({error.strerror})" if isinstance(error, PlainFileError) else ""
        raise PromptError(
            f"No prompt file at {shorten(str(path), 300)}{reason}. Check the name."
        ) from error
    except OSError as error:
        raise PromptError(f"{name} cannot be read: {error.strerror}.") from error


def _decoded(raw: BinaryIO) -> io.TextIOWrapper:
    # Bytes that are no UTF-8 become halves of surrogate pairs, so that their line is known.
    return io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape")


def _lines(text: io.TextIOWrapper, name: str) -> Iterator[tuple[int, str | LongLineError]]:
    number = size = 0
    while line := text.readline(MAX_ROW_CHARACTERS + 1):
        number += 1
        size += len(line)
        long = len(line) > MAX_ROW_CHARACTERS and not line.endswith("\n")
        _check_text(line, number, name)
        while long and line and not line.endswith("\n"):
            line = text.readline(MAX_ROW_CHARACTERS)
            size += len(line)
            _check_text(line, number, name)
        if size > MAX_FILE_BYTES:  # it has grown meanwhile
            raise _too_large(name, f"{MAX_FILE_BYTES // 2**20} MiB")
        if number > MAX_LINES:
            raise _too_large(name, f"{MAX_LINES} lines")
        yield number, LongLineError() if long else line


def _check_text(text: str, number: int, name: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        number += text.count("\n", 0, error.start)
        begin, end = text.rfind("\n", 0, error.start) + 1, text.find("\n", error.start)
        line = text[begin : end if end >= 0 else None]
        raise not_utf8(line.encode("utf-8", "surrogateescape"), number, name) from error


def _too_large(name: str, limit: str) -> PromptError:
    return PromptError(f"{name} has more than {limit}. Split the file.")


class RowLines:
    """Feeds a reader that puts lines together to a row, as CSV's does, but no more than a row may have.

    Attributes:
        row_characters: Length of the row so far; whoever reads sets it to 0 at the start of each.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = iter(lines)
        self.row_characters = 0

    def __iter__(self) -> RowLines:
        return self

    def __next__(self) -> str:
        content = next(self._lines)[1]
        if isinstance(content, LongLineError):
            raise content
        self.row_characters += len(content)
        if self.row_characters > MAX_ROW_CHARACTERS + 1:  # and a line end
            raise LongLineError
        return content
