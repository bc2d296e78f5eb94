"""The record of a run: one JSON line for each step, appended and flushed as it happens."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from ..to_json import to_json

HISTORY_FILE = "history.jsonl"
COMPLETIONS_FILE = "completions.jsonl"


def append_line(file: Path, record: Mapping[str, Any]) -> None:
    """Append one record and hand it to the operating system at once."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(to_json(record), ensure_ascii=False, allow_nan=False) + "\n")


def write_atomically(file: Path, text: str) -> None:
    """Write `text` so that `file` holds either the old or the new content, even after a crash."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def read_lines(file: Path) -> tuple[dict[str, Any], ...]:
    """All complete records of a JSONL file, in order; a torn last line (a killed run) is left out."""
    if not file.is_file():
        return ()
    lines = file.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records += [json.loads(line)] if line else []
        except ValueError as error:
            if number == len(lines):
                break
            raise TrainingError(
                f"Line {number} of {str(file)!r} is damaged ({error}); delete that line."
            ) from error
    return tuple(records)


def read_history(folder: Path) -> tuple[dict[str, Any], ...]:
    """The records of the run in `folder`, one for each step, in order.

    A step's evaluation is a line of its own in the file, since it is made after the step; here they are one.

    Raises:
        TrainingError: The folder holds no run.
    """
    if not (folder / HISTORY_FILE).is_file():
        raise TrainingError(
            f"{str(folder)!r} holds no run ({HISTORY_FILE} is missing); train first."
        )
    merged: dict[int, dict[str, Any]] = {}
    for record in read_lines(folder / HISTORY_FILE):
        merged[record["step"]] = {**merged.get(record["step"], {}), **record}
    return tuple(merged.values())


def truncate(file: Path, step: int) -> None:
    """Drop the records after `step`: a resumed run makes them again."""
    records: Sequence[dict[str, Any]] = [r for r in read_lines(file) if r["step"] <= step]
    text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
    write_atomically(file, text)
