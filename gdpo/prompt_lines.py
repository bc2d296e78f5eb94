"""Lines of a prompt file, one at a time: a file from a stranger is never in memory as a whole."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import PromptError, shorten
from .plain_files import PlainFileError, open_plain

MAX_FILE_BYTES = 64 * 2**20
MAX_ROW_CHARACTERS = 1_000_000
# More lines than rows: texts have empty lines between them, and cells of tables have several.
MAX_LINES = 5_000_000


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
    name = shorten(path.name)
    try:
        with open_plain(path) as raw:
            if os.fstat(raw.fileno()).st_size > MAX_FILE_BYTES:
                raise _too_large(name, f"{MAX_FILE_BYTES // 2**20} MiB")
            # Bytes that are no UTF-8 become halves of surrogate pairs, so that their line is known.
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape")
            yield from _lines(text, name)
    except (FileNotFoundError, NotADirectoryError, PlainFileError, ValueError) as error:
        reason = f" ({error.strerror})" if isinstance(error, PlainFileError) else ""
        raise PromptError(
            f"No prompt file at {shorten(str(path), 300)}{reason}. Check the name."
        ) from error
    except OSError as error:
        raise PromptError(f"{name} cannot be read: {error.strerror}.") from error


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


def _check_text(line: str, number: int, name: str) -> None:
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"{name} is not UTF-8 at line {number}. Save the file as UTF-8."
        ) from error


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
