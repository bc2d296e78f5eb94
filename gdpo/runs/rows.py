"""Whether a run goes on: its identity is that of its settings and of the rows that it has used.

Rows that no step has drawn yet have changed nothing, so they may be repaired, removed or added. `run.json` then gets
the rows of today, and the rows that were drawn until then, from which the order goes on (see `order`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from .checkpoints import checkpoint_folders, step_of
from .differences import ROWS, first_difference
from .order import Drawn
from .past import PAST, continued, order_of, read_past, read_rows
from .run_file import WITH_PAST

# `run.json` holds one sum for each.
_MOST_DRAWN = 2_000_000
_NAMED = 3


@dataclass(frozen=True)
class Comparison:
    """What comes of a run's folder and the training that is to go on in it.

    Attributes:
        changed: Why the run does not go on, as a noun phrase of what is another one; empty if it does.
        content: What `run.json` shall say from now on.
        told: A sentence on the rows that are other ones, where the run goes on with them; otherwise empty.
    """

    changed: str
    content: Mapping[str, Any]
    told: str = ""


def compare(
    folder: Path, content: Mapping[str, Any], identity: Mapping[str, Any], steps: int
) -> Comparison:
    """Compare the run in a folder with a training.

    Args:
        folder: The run's folder.
        content: Of its `run.json`.
        identity: That of the training, from `identify`.
        steps: How many steps the run shall have. Only while fewer are made may rows be other ones.

    Raises:
        TrainingError: What `run.json` says of the rows is not what a run writes.
    """
    old = content["identity"]
    changed = first_difference(old, dict(identity))
    made = newest_step(folder)
    if not changed or made >= steps:
        return Comparison(changed, content)
    free = ("prompts",) if made else ("prompts", "heldout")
    other = first_difference({**old, **{key: identity[key] for key in free}}, dict(identity))
    if other:
        return Comparison(other, content)
    before, past = read_rows(content), read_past(content, folder)
    if before is None:
        return Comparison(changed, content)
    count = max(made * identity["settings"]["prompts_per_step"], len(past.rows) if past else 0)
    if count > _MOST_DRAWN:
        return Comparison(changed, content)
    return _with_other_rows(folder, content, identity, before, past, count)


def _with_other_rows(
    folder: Path,
    content: Mapping[str, Any],
    identity: Mapping[str, Any],
    before: list[str],
    past: Drawn | None,
    count: int,
) -> Comparison:
    """Compare rows with those that were drawn as the first `count`."""
    settings, now = identity["settings"], identity[ROWS]["prompts"].split()
    digits = len((past.rows if past else before)[0])
    before, now = [row[:digits] for row in before], [row[:digits] for row in now]
    order = order_of(folder, content, settings["rng_seed"], len(before))
    drawn = order.drawn(before, count) if count else Drawn()
    there = set(now)
    lost = next((number for number, row in enumerate(drawn.rows) if row not in there), None)
    if lost is not None:
        place = before.index(drawn.rows[lost]) + 1
        step = lost // settings["prompts_per_step"] + 1
        what = f"row {place}, which step {step} was trained on, is gone or another one"
        return Comparison(f"another `prompts` ({what})", content)
    changes = {key: identity[key] for key in ("prompts", "heldout", ROWS)}
    renewed = {**content, "identity": {**content["identity"], **changes}}
    if count:
        renewed |= {"format": WITH_PAST, PAST: continued(drawn)}
    told = _describe(before, now)
    used = (
        f"all {len(set(drawn.rows))} that it has used are among them"
        if count
        else "it has used none"
    )
    return Comparison(
        "", renewed, f"The run {folder.name!r} goes on with other rows: {told}; {used}."
    )


def check_run(folder: Path, found: Comparison) -> None:
    """Refuse to go on with a run of other settings or other used rows.

    Raises:
        TrainingError: The message names the first difference.
    """
    if found.changed:
        raise TrainingError(
            f"The run {folder.name!r} was trained with {found.changed}; choose another `run_name`."
        )


def newest_step(folder: Path) -> int:
    """The step of the run's newest checkpoint, whole or not; 0 without any."""
    found = checkpoint_folders(folder)
    return step_of(found[-1]) if found else 0


def _describe(before: list[str], now: list[str]) -> str:
    """What is gone and what is new, as clauses."""
    lost, new = _only_here(before, now), _only_here(now, before)
    parts = [f"{_numbers(lost)} of before {'is' if len(lost) == 1 else 'are'} gone"] if lost else []
    parts += [f"{_numbers(new)} of today {'is' if len(new) == 1 else 'are'} new"] if new else []
    return ", ".join(parts) or "they are in another order"


def _only_here(rows: list[str], others: list[str]) -> list[int]:
    """Numbers, from 1, of the rows that the others do not have, or not so often."""
    left, found = Counter(others), []
    for number, row in enumerate(rows, 1):
        if left[row] > 0:
            left[row] -= 1
        else:
            found.append(number)
    return found


def _numbers(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:_NAMED]))
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"
