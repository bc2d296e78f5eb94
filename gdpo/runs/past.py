"""What `run.json` says of the rows of a run: those of today, and what was drawn before it went on with other ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import TrainingError, shorten
from .differences import OLD_DIGITS, OLD_ROWS, ROWS
from .order import Drawn, Order
from .run_file import RUN_FILE

PAST = "past"  # entry of `run.json`


def order_of(folder: Path, content: Mapping[str, Any], seed: int, size: int) -> Order:
    """The order in which the run draws its rows.

    Args:
        folder: The run's folder.
        content: Of its `run.json`.
        seed: The run's seed.
        size: Number of its rows.

    Raises:
        TrainingError: What `run.json` says of the past is not what a run writes.
    """
    past = read_past(content, folder)
    if past is None:
        return Order(size, seed)
    digits = len(past.rows[0])
    rows = [row[:digits] for row in read_rows(content) or ()]
    if len(rows) != size or not set(past.rows) <= set(rows):
        raise _damaged(folder, f"`{ROWS}` are not those that `{PAST}` was drawn from")
    return Order(size, seed, rows, past)


def read_rows(content: Mapping[str, Any]) -> list[str] | None:
    """The sums of the run's rows; None where an older version did not write all of them."""
    entry = content["identity"].get(ROWS)
    rows = _sums(entry.get("prompts") if isinstance(entry, dict) else None)
    if not rows or (len(rows[0]) <= OLD_DIGITS and len(rows) >= OLD_ROWS):
        return None
    return rows


def read_past(content: Mapping[str, Any], folder: Path) -> Drawn | None:
    """What was drawn before the run went on with other rows; None where it never did.

    Raises:
        TrainingError: It is not what a run writes.
    """
    entry = content.get(PAST)
    if entry is None:
        return None
    found = entry if isinstance(entry, dict) else {}
    rows, epoch, begun = _sums(found.get("rows")), found.get("epoch"), found.get("begun")
    if not rows or not _is_count(epoch, len(rows)) or not _is_count(begun, len(rows)):
        raise _damaged(folder, f"`{PAST}` is {shorten(entry)}")
    return Drawn(tuple(rows), epoch, begun)


def _is_count(value: object, most: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def continued(drawn: Drawn) -> dict[str, Any]:
    """The entry that `read_past` reads."""
    return {"rows": " ".join(drawn.rows), "epoch": drawn.epoch, "begun": drawn.begun}


def _sums(value: object) -> list[str] | None:
    rows = value.split() if isinstance(value, str) else []
    fits = rows and len(rows[0]) >= OLD_DIGITS and all(len(row) == len(rows[0]) for row in rows)
    return rows if fits else None


def _damaged(folder: Path, reason: str) -> TrainingError:
    return TrainingError(
        f"{str(folder / RUN_FILE)!r} cannot be read ({reason}); restore it from a copy, or choose another `run_name`."
    )
