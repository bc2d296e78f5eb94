"""Rows of Parquet files, where pyarrow is installed."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import PromptError, shorten
from .lines import MAX_FILE_BYTES, MAX_ROW_CHARACTERS, opened
from .values import MAX_COLUMNS, BadRowError, Row, as_row

# A few bytes of Parquet can stand for many rows of long texts, so what they unfold to is bounded too.
_MOST_UNFOLDED = 2**28
_MOST_AT_ONCE = 2**26  # four times as much as texts of Python
_MOST_ROWS_AT_ONCE = 1024
_PLAIN = (str, bool, int, type(None))
_AS_TEXT = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)


def parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield number, from 1, and columns of each row of a Parquet file.

    Raises:
        PromptError: pyarrow is not installed, or the file is damaged or unfolds to too much.
    """
    name = shorten(path.name)
    if find_spec("pyarrow") is None:
        raise PromptError(
            f"{name} is a Parquet file, which needs pyarrow: run `pip install pyarrow`, or save it as JSON lines."
        )
    characters = 0
    with opened(path) as raw:
        for number, value in enumerate(_read(raw, name), start=1):
            row, size = _to_row(value)
            characters += size
            if characters > MAX_FILE_BYTES:
                raise PromptError(
                    f"{name} holds more than {MAX_FILE_BYTES // 2**20} MiB of text. Split the file."
                )
            yield number, row


def _read(raw: BinaryIO, name: str) -> Iterator[object]:
    import pyarrow  # pyright: ignore[reportMissingImports]  optional
    from pyarrow.parquet import ParquetFile  # pyright: ignore[reportMissingImports]

    try:
        with ParquetFile(raw) as file:
            at_once = _rows_at_once(file, name)
            for batch in file.iter_batches(batch_size=at_once, use_threads=False):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = shorten(" ".join(str(error).split()), 120)
        raise PromptError(f"{name} cannot be read as Parquet: {reason}. Save it anew.") from error


def _rows_at_once(file: Any, name: str) -> int:
    """Return how many rows may be in memory together, by the largest value that there can be."""
    metadata = file.metadata
    if metadata.num_columns > MAX_COLUMNS:
        raise PromptError(
            f"{name} has {metadata.num_columns} columns; at most {MAX_COLUMNS} are allowed."
        )
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    largest = max((group.total_byte_size for group in groups), default=0)
    if largest > _MOST_UNFOLDED:
        raise PromptError(
            f"{name} has {largest // 2**20} MiB in one row group; at most {_MOST_UNFOLDED // 2**20} MiB are read. "
            "Split the file."
        )
    return max(1, min(_MOST_ROWS_AT_ONCE, _MOST_AT_ONCE // max(largest, 1)))


def _to_row(value: object) -> tuple[Row, int]:
    """Return a row as JSON would give it, or why it cannot be used; and how many characters it has."""
    try:
        row, size = _to_json(value)
    except BadRowError as error:
        return error.alone(), 0
    if size > MAX_ROW_CHARACTERS:
        return BadRowError(f"longer than {MAX_ROW_CHARACTERS} characters"), size
    return as_row(row), size


def _to_json(value: object) -> tuple[object, int]:
    if isinstance(value, _PLAIN):
        return value, len(value) if isinstance(value, str) else 8
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadRowError(f"{value} is not a JSON number")
        return value, 8
    if isinstance(value, _AS_TEXT):
        return str(value), 8
    if isinstance(value, dict):
        pairs = {str(key): _to_json(item) for key, item in value.items()}
        return {key: one for key, (one, _) in pairs.items()}, sum(
            size for _, size in pairs.values()
        )
    if isinstance(value, (list, tuple)):
        items = [_to_json(item) for item in value]
        return [one for one, _ in items], sum(size for _, size in items)
    raise BadRowError(f"holds {type(value).__name__}, which is neither text nor number")
