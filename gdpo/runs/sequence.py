"""What holds between the records of one run: their order, their names, and how one more joins them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import shorten
from ..objective.objective import MAX_REWARDS
from .record import StepRecord
from .shape import MisfitError


def join_record(records: list[StepRecord], record: StepRecord) -> None:
    """Add a record to those of its run, which are in the order of their steps.

    An evaluation is made after its step and joins the step's record. A run that goes on from a checkpoint makes steps
    again: they replace the old ones, and what came later is dropped. The page does the same, see `withRecord` in
    `web/record.mjs`.
    """
    while records and records[-1]["step"] > record["step"]:
        records.pop()
    if records and records[-1]["step"] == record["step"]:
        before = records.pop()
        record = record if "rewards" in record else {**before, **record}
    records.append(record)


def check_order(before: StepRecord, record: StepRecord) -> None:
    """Refuse a record that cannot come after `before` in the file of one run.

    Raises:
        MisfitError: Its step is an earlier one, or is there twice.
    """
    again = record["step"] == before["step"]
    joins = "rewards" not in record and "eval" not in before
    if record["step"] < before["step"] or (again and not joins):
        wanted = f"above {before['step']}, the step of the line before"
        raise MisfitError(wanted, record["step"], ["step"])


def check_names(record: StepRecord, names: Sequence[str] | None) -> list[str] | None:
    """Return the names of the run's rewards, after a look at every place where a record has them.

    Args:
        record: Record of a step or of an evaluation.
        names: The names as they are known so far; None if no record had any.

    Raises:
        MisfitError: The record has other names or too many, or cosines of another size.
    """
    known = None if names is None else list(names)
    for path, found in _names_in(record):
        known = found if known is None else known
        if found != known:
            raise MisfitError(f"an object with the run's rewards {shorten(known)}", found, path)
    rows = record.get("cosines", [])
    count = len(known or rows)
    if count > MAX_REWARDS:
        raise MisfitError(f"of {MAX_REWARDS} rewards at most", count)
    sizes = [len(row) for row in rows]
    if sizes not in ([], [count] * count):
        raise MisfitError(f"{count} rows of {count} numbers", f"rows of {sizes}", ["cosines"])
    return known


def _names_in(record: StepRecord) -> Iterator[tuple[list[str], list[str]]]:
    """Tell where a record has the names of the rewards, and which."""
    evaluation = record.get("eval")
    places = {
        "rewards": record.get("rewards"),
        "preferences": record.get("preferences"),
        "weights": record.get("weights"),
        "deficits": record.get("deficits"),
        "eval.rewards": evaluation and evaluation["rewards"],
    }
    for path, values in places.items():
        if values is not None:
            yield path.split("."), list(values)
