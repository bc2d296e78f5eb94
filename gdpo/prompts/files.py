"""Rows of prompt files: JSON, CSV, plain text and Parquet, from strangers, so bounded and checked.

A file takes at most 1 GiB of memory, whatever is in it. Its text takes up to four times the file's size (256 MiB, where
a strange letter makes every character of a text as wide as itself), each of 500 000 rows some 600 bytes, and each of
3 000 000 values up to 150. The row that is being read takes some 50 MB, and bad rows are not kept.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from ..errors import PromptError, shorten
from .json_rows import json_rows
from .kinds import Kind
from .lines import Lines, LongLineError, RowLines, read_lines
from .parquet import parquet_rows
from .values import MAX_COLUMNS, BadRowError, Row, count_values, parse_row

MAX_VALUES = 3_000_000  # of all rows together, those inside lists and objects too


def read_rows(path: Path, kind: Kind) -> Iterator[tuple[int, Row]]:
    """Yield the line or number and the columns of each row, read one at a time.

    Args:
        path: The file.
        kind: How it is read, from `find_kind`.

    Raises:
        PromptError: It is absent, too large, not UTF-8, or names a column twice.
    """
    values = 0
    for line, row in _rows(path, kind):
        if not isinstance(row, BadRowError):
            try:
                values += count_values(row)
            except BadRowError as error:
                row = error.alone()
        if values > MAX_VALUES:
            raise PromptError(
                f"{shorten(path.name)} has more than {MAX_VALUES} values. Split the file."
            )
        yield line, row


def _rows(path: Path, kind: Kind) -> Iterator[tuple[int, Row]]:
    if kind.document is not None:
        return json_rows(path, kind.document)
    if kind.name == "Parquet":
        return parquet_rows(path)
    lines = read_lines(path)
    if kind.name == "JSON lines":
        return _jsonl_rows(lines)
    return _csv_rows(lines, path.name, kind.delimiter) if kind.name == "CSV" else _txt_rows(lines)


def _txt_rows(lines: Lines) -> Iterator[tuple[int, Row]]:
    for line, content in lines:
        if isinstance(content, LongLineError):
            yield line, BadRowError(str(content))
        elif content.strip():
            yield line, {"prompt": content.strip()}


def _jsonl_rows(lines: Lines) -> Iterator[tuple[int, Row]]:
    for line, content in lines:
        if isinstance(content, LongLineError):
            yield line, BadRowError(str(content))
        elif content.strip():
            yield line, parse_row(content.removesuffix("\n"))


def _csv_rows(lines: Lines, name: str, delimiter: str) -> Iterator[tuple[int, Row]]:
    source = RowLines(lines)
    reader = csv.reader(source, strict=True, delimiter=delimiter)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1  # A quoted cell may span lines; a row is named by its first.
        source.row_characters = 0
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, LongLineError) as error:
            # The reader cannot tell where the broken row ends, so what follows would be guesswork.
            yield line, BadRowError(f"not valid CSV ({error}); the rest of the file was not read")
            return
        if not any(cell.strip() for cell in cells):
            continue
        if header is None and [cell.casefold() for cell in cells] == ["sep=", ""]:
            continue  # a spreadsheet program's own line
        if header is None:
            header = _check_header(cells, name)
        elif len(cells) != len(header):
            yield (
                line,
                BadRowError(f"the header names {len(header)} columns, the row has {len(cells)}"),
            )
        else:
            yield line, dict(zip(header, cells, strict=True))


def _check_header(cells: list[str], name: str) -> list[str]:
    if len(cells) > MAX_COLUMNS:
        raise PromptError(
            f"{shorten(name)} names {len(cells)} columns; at most {MAX_COLUMNS} are allowed."
        )
    header = [cell.strip() for cell in cells]
    if len(set(header)) < len(header):
        raise PromptError(f"{shorten(name)} names a column twice: {shorten(header)}.")
    return header
