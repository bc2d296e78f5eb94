"""Which checkpoint a run goes on from: the newest one that is whole and whose records are there."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import remove
from ..errors import PolicyError, TrainingError, shorten
from ..plain_files import check_plain
from ..policies.adapter import Adapter, load_adapter
from .checkpoints import DAMAGED, OPTIMIZER_FILE, checkpoint_folders, drop_old, step_of
from .disk import writing
from .journal import holds
from .optimizer_state import unflatten
from .seal import Records, State, record_files, unseal
from .shape import MisfitError

logger = logging.getLogger(__name__)

# What Python raises on files that are absent, damaged or made up.
_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    MisfitError,
)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        adapter: The adapter after the step.
        slots: State of the optimiser, by the number of the parameter.
        state: The step's number and what else the next step depends on.
        records: Marks of the run's records; None where an older version wrote the checkpoint.
    """

    adapter: Adapter
    slots: dict[int, dict[str, Any]]
    state: State
    records: Records | None


class _DamagedError(Exception):
    """A checkpoint cannot be gone on from; the message says why."""


def newest_checkpoint(folder: Path) -> Path | None:
    """The folder of the run's newest checkpoint, or None.

    Raises:
        TrainingError: It is damaged, or a newer version wrote it.
    """
    found = checkpoint_folders(folder)
    if not found:
        return None
    try:
        unseal(found[-1])
    except _UNREADABLE as error:
        raise TrainingError(
            f"The checkpoint {str(found[-1])!r} is damaged ({_reason(error)}); start its training again, which makes "
            "it anew."
        ) from error
    return found[-1]


def restore_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint of a run, or None where the training has to begin anew.

    Later ones are put aside as `damaged-step-<step>`, with one line in the log; the steps after the chosen one are
    made again, with the same result.

    Raises:
        TrainingError: A newer version wrote a checkpoint, or the run's records are not those of any checkpoint.
    """
    problem = ""
    for found in reversed(checkpoint_folders(folder)):
        try:
            checkpoint = _load(found)
        except _DamagedError as error:
            _warn(f"The checkpoint {str(found)!r} is damaged ({error})")
            continue
        missing = _missing_records(folder, checkpoint)
        if not missing:
            _put_aside(folder, step_of(found))
            drop_old(folder)  # a power failure may have brought some back
            return checkpoint
        _warn(missing)
        problem = problem or missing
    if problem:
        raise TrainingError(
            f"{problem}; restore the file from a copy, or train under another `run_name`."
        )
    _put_aside(folder, 0)
    return None


def _warn(problem: str) -> None:
    logger.warning("%s: the training goes on from before that.", problem)


def _load(found: Path) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state, records = unseal(found)
        if state["step"] != step_of(found):
            raise MisfitError("that of the folder", state["step"], ["step"])
        adapter = load_adapter(found)
        check_plain(found / OPTIMIZER_FILE)
        # Copies: a file that stays mapped into memory cannot be deleted on Windows.
        tensors = {k: v.clone() for k, v in load_file(found / OPTIMIZER_FILE).items()}
        return Checkpoint(adapter, unflatten(tensors, state["optimizer"]), state, records)
    except (*_UNREADABLE, SafetensorError, PolicyError) as error:
        raise _DamagedError(_reason(error)) from error


def _missing_records(folder: Path, checkpoint: Checkpoint) -> str:
    """Which file of records does not hold what it held at the checkpoint, as a sentence; empty if both do."""
    files = record_files(folder, checkpoint.records) if checkpoint.records else []
    for file, mark in files:
        try:
            problem = "" if holds(file, mark) else "it has lost or changed a line"
        except OSError as error:
            problem = str(error.strerror)
        if problem:
            step = checkpoint.state["step"]
            return f"{str(file)!r} is not what was written up to step {step} ({problem})"
    return ""


def _put_aside(folder: Path, step: int) -> None:
    """Rename the checkpoints after `step`, so that they can be made again."""
    with writing(folder):
        for found in checkpoint_folders(folder):
            if step_of(found) > step:
                target = found.with_name(f"{DAMAGED}{found.name}")
                remove(target)
                os.replace(found, target)


def _reason(error: Exception) -> str:
    return shorten(" ".join(f"{type(error).__name__}: {error}".split()), 200)
