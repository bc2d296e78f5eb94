"""The files that a run grows by: one JSON line for each record, appended and flushed as it happens.

A run's folder may come from a stranger, or from a disk that was full: everything that reads these files reads them
here, and gets records of the documented shape or one line that says what is wrong where.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..errors import TrainingError, shorten
from ..plain_files import open_plain
from ..strict_json import refuse_constant
from .record import CompletionRecord, StepRecord, completion_from_json, step_from_json
from .sequence import check_names, check_order, join_record
from .shape import MisfitError

HISTORY_FILE = "history.jsonl"
COMPLETIONS_FILE = "completions.jsonl"

# A history is held in memory as a whole, three to five times its size: some 15 000 steps with 16 rewards, 70 000 with 5.
MAX_HISTORY_BYTES = 2**27
MAX_HISTORY_LINES = 1_000_000
# The longest line holds a prompt of 100 000 characters and a completion of 32 768 tokens.
MAX_LINE_BYTES = 2**24

Record = TypeVar("Record")


def read_history(folder: Path, names: Sequence[str] | None = None) -> tuple[StepRecord, ...]:
    """The records of the run in `folder`, one for each step, in order.

    A step's evaluation is a line of its own in the file, since it is made after the step; here they are one.

    Args:
        folder: The run's folder.
        names: The rewards that the run must have; None: those of its first record.

    Raises:
        TrainingError: The folder holds no run, or a line is not what a run writes.
    """
    file = folder / HISTORY_FILE
    if not file.is_file():
        raise TrainingError(
            f"{str(folder)!r} holds no run ({HISTORY_FILE} is missing); train first."
        )
    records: list[StepRecord] = []
    for number, _, record in _read_steps(file):
        try:
            if records:
                check_order(records[-1], record)
            names = check_names(record, names)
        except MisfitError as error:
            raise _damaged(file, number, error) from error
        join_record(records, record)
    return tuple(records)


def newest_completion(folder: Path) -> CompletionRecord | None:
    """The first completion that was kept of the newest step; None if there is none.

    Raises:
        TrainingError: A line of the file is not what a run writes.
    """
    newest: CompletionRecord | None = None
    for _, _, record in _read_records(folder / COMPLETIONS_FILE, completion_from_json):
        if newest is None or record["step"] != newest["step"]:
            newest = record
    return newest


def length_until(folder: Path, step: int) -> tuple[int, int]:
    """How many bytes of the history and of the completions were written up to `step`.

    Checkpoints of older versions do not say it.

    Raises:
        TrainingError: A line of a file is not what a run writes.
    """
    history, completions = folder / HISTORY_FILE, folder / COMPLETIONS_FILE
    return (
        _length_until(step, _read_steps(history)),
        _length_until(step, _read_records(completions, completion_from_json)),
    )


def _length_until(step: int, records: Iterator[tuple[int, bytes, Any]]) -> int:
    length = 0
    for _, line, record in records:
        if record["step"] <= step and line.endswith(b"\n"):
            length += len(line)
    return length


def _read_steps(file: Path) -> Iterator[tuple[int, bytes, StepRecord]]:
    return _read_records(file, step_from_json, MAX_HISTORY_BYTES, MAX_HISTORY_LINES)


def _read_records(
    file: Path,
    from_json: Callable[[Any], Record],
    max_bytes: float = math.inf,
    max_lines: float = math.inf,
) -> Iterator[tuple[int, bytes, Record]]:
    """Number, text and record of each line; a torn last line (a killed run) is left out.

    One line is held in memory at a time.
    """
    size = 0
    for number, line in _read_lines(file):
        size += len(line)
        if size > max_bytes or number > max_lines:
            limit = f"{max_bytes:.0f} bytes" if size > max_bytes else f"{max_lines:.0f} lines"
            raise TrainingError(
                f"{str(file)!r} has more than {limit}, the most that is read; give another run."
            )
        if len(line) > MAX_LINE_BYTES:
            raise _damaged(file, number, f"it is longer than {MAX_LINE_BYTES} bytes")
        if not line.strip():
            continue
        try:
            record = from_json(json.loads(line.decode("utf-8"), parse_constant=refuse_constant))
        except (ValueError, RecursionError, MisfitError) as error:
            if not line.endswith(b"\n") and not isinstance(error, MisfitError):
                return
            raise _damaged(file, number, error) from error
        yield number, line, record


def _read_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line, of which no more are read than is needed to see that it is too long."""
    if not file.is_file():
        return
    try:
        with open_plain(file) as stream:
            number = 0
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                yield number, line
    except OSError as error:
        raise TrainingError(
            f"{str(file)!r} cannot be read ({error.strerror}); give another run."
        ) from error


def _damaged(file: Path, number: int, problem: object) -> TrainingError:
    text = problem if isinstance(problem, (str, MisfitError)) else _one_line(problem)
    return TrainingError(
        f"Line {number} of {str(file)!r} is damaged: {text}; delete that line or give another run."
    )


def _one_line(problem: object) -> str:
    return f"{type(problem).__name__}: {shorten(str(problem), 120)}"
