"""Rows of prompt files: JSONL, CSV and plain text, from strangers, so bounded and checked.

A file takes at most 1 GiB of memory, whatever is in it. Its text takes up to four times the file's size (256 MiB, where
a strange letter makes every character of a text as wide as itself), each of 500 000 rows some 600 bytes, and each of
3 000 000 values up to 150. The row that is being read takes some 50 MB, and bad rows are not kept.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from .errors import PromptError, shorten
from .prompt_lines import Lines, LongLineError, RowLines, read_lines

MAX_COLUMNS = 1_000
MAX_VALUES = 3_000_000  # of all rows together, those inside lists and objects too
MAX_DEPTH = 64


class BadRowError(Exception):
    """One row cannot be used; the message says why, without file and line."""

    def alone(self) -> BadRowError:
        """Return the same error without its traceback, which would keep the row in memory."""
        return BadRowError(str(self))


# A row that a reader could not even take apart travels as its BadRowError, so that one place
# counts them all.
Row = Mapping[str, object] | BadRowError


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield line number and columns of each row, read one at a time.

    Args:
        path: File whose ending is one of `READERS`.

    Raises:
        PromptError: It is absent, too large, not UTF-8, or names a column twice.
    """
    values = 0
    for line, row in READERS[path.suffix.lower()](read_lines(path), path.name):
        if not isinstance(row, BadRowError):
            try:
                values += _count_values(row)
            except BadRowError as error:
                row = error.alone()
        if values > MAX_VALUES:
            raise PromptError(
                f"{shorten(path.name)} has more than {MAX_VALUES} values. Split the file."
            )
        yield line, row


def _count_values(row: Mapping[str, object]) -> int:
    """Return the number of values in a row, those inside lists and objects too."""
    if len(row) > MAX_COLUMNS:
        raise BadRowError(f"has {len(row)} columns; at most {MAX_COLUMNS} are allowed")
    count, depth, level = len(row), 0, _containers(row.values())
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise BadRowError("nested too deeply")
        count += sum(map(len, level))
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = _containers(value for values in inner for value in values)
    return count


def _containers(values: Iterable[object]) -> list[dict | list]:
    return [value for value in values if isinstance(value, (dict, list))]


def _txt_rows(lines: Lines, _name: str) -> Iterator[tuple[int, Row]]:
    for line, content in lines:
        if isinstance(content, LongLineError):
            yield line, BadRowError(str(content))
        elif content.strip():
            yield line, {"prompt": content.strip()}


def _jsonl_rows(lines: Lines, _name: str) -> Iterator[tuple[int, Row]]:
    for line, content in lines:
        if isinstance(content, LongLineError):
            yield line, BadRowError(str(content))
        elif content.strip():
            yield line, _parse_json_row(content.removesuffix("\n"))


def _parse_json_row(content: str) -> Row:
    try:
        row = json.loads(
            content,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            object_pairs_hook=_without_doubles,
        )
        if "\\u" in content:
            # Half a surrogate pair can be written as an escape, but no tokenizer or file can take
            # it.
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except BadRowError as error:
        return error.alone()
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


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise BadRowError(f"names {shorten(twice)} twice")
    return found


def _csv_rows(lines: Lines, name: str) -> Iterator[tuple[int, Row]]:
    source = RowLines(lines)
    reader = csv.reader(source, strict=True)
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


# How the lines of a file, whose name is given for messages, become line numbers and rows.
READERS: dict[str, Callable[[Lines, str], Iterator[tuple[int, Row]]]] = {
    ".jsonl": _jsonl_rows,
    ".csv": _csv_rows,
    ".txt": _txt_rows,
}
