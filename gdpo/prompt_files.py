"""Rows of prompt files: JSONL, CSV and plain text, from strangers, so bounded and checked."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from .errors import PromptError, shorten

# JSON may take some twenty times its size in memory, so this bounds a file to a bit over 1 GB.
MAX_FILE_BYTES = 64 * 2**20
MAX_ROW_CHARACTERS = 1_000_000


class BadRowError(Exception):
    """One row cannot be used; the message says why, without file and line."""


# A row that a reader could not even take apart travels as its BadRowError, so that one place
# collects them all.
Row = Mapping[str, object] | BadRowError


def read_text(path: Path) -> str:
    """Read the whole file as text, all line ends alike.

    Raises:
        PromptError: It is absent, too large or not UTF-8.
    """
    if not path.is_file():
        raise PromptError(f"No prompt file at {shorten(str(path), 300)}. Check the name.")
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PromptError(f"{shorten(path.name)} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_FILE_BYTES:
        raise PromptError(
            f"{shorten(path.name)} has more than {MAX_FILE_BYTES // 2**20} MiB. Split the file."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptError(
            f"{shorten(path.name)} is not UTF-8 at line {line}. Save the file as UTF-8."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _txt_rows(text: str, _name: str) -> Iterator[tuple[int, Row]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            yield line, {"prompt": content.strip()}


def _jsonl_rows(text: str, _name: str) -> Iterator[tuple[int, Row]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            yield line, _parse_json_row(content)


def _parse_json_row(content: str) -> Row:
    if len(content) > MAX_ROW_CHARACTERS:
        return BadRowError(f"longer than {MAX_ROW_CHARACTERS} characters")
    try:
        row = json.loads(content, parse_constant=_refuse_constant, parse_float=_finite_float)
        if "\\u" in content:
            # Half a surrogate pair can be written as an escape, but no tokenizer or file can take
            # it.
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except BadRowError as error:
        return error
    except json.JSONDecodeError as error:
        return BadRowError(f"not valid JSON ({error.msg} at column {error.colno})")
    except UnicodeEncodeError:
        return BadRowError("holds half of a surrogate pair, which is not text")
    except RecursionError:
        return BadRowError("nested too deeply")
    except ValueError as error:
        return BadRowError(f"not usable ({error})")
    if not isinstance(row, dict):
        return BadRowError(f'must be a JSON object like {{"prompt": "..."}}. Found {shorten(row)}')
    return row


def _refuse_constant(name: str) -> float:
    raise BadRowError(f"{name} is not a JSON number")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise BadRowError(f"the number {shorten(digits, 30)} is too large")
    return value


def _csv_rows(text: str, name: str) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1  # A quoted cell may span lines; a row is named by its first.
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # The reader cannot tell where the broken row ends, so what follows would be guesswork.
            yield line, BadRowError(f"not valid CSV ({error}); the rest of the file was not read")
            return
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if len(set(header)) < len(header):
                raise PromptError(f"{shorten(name)} names a column twice: {shorten(header)}.")
        elif len(cells) != len(header):
            yield (
                line,
                BadRowError(f"the header names {len(header)} columns, the row has {len(cells)}"),
            )
        else:
            yield line, dict(zip(header, cells, strict=True))


# How the text of a file, whose name is given for messages, is taken apart: line numbers and rows.
READERS: dict[str, Callable[[str, str], Iterator[tuple[int, Row]]]] = {
    ".jsonl": _jsonl_rows,
    ".csv": _csv_rows,
    ".txt": _txt_rows,
}
