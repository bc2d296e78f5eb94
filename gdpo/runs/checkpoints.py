"""Checkpoints of a run: adapter, optimiser and director at a step, written whole or not at all.

Everything else that a step depends on (prompts, random numbers, learning rate) follows from the step's
number and the settings, so there is nothing more to save. JSON and safetensors only.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..atomic import remove, replacing_folder, write_atomically
from ..plain_files import read_text
from ..policies.adapter import Adapter, save_adapter
from ..to_json import to_json
from .disk import writing
from .optimizer_state import flatten
from .seal import STATE_FILE, Records, seal, sealed_again

OPTIMIZER_FILE = "optimizer.safetensors"
DAMAGED = "damaged-"
_FOLDER = "checkpoints"
KEEP = 2  # the newest, and one before it in case the disk lies


def save_checkpoint(
    folder: Path,
    step: int,
    adapter: Adapter,
    optimizer: Any,
    state: dict[str, Any],
    records: Records,
) -> None:
    """Write `folder/checkpoints/step-<step>`, then drop the oldest ones.

    Args:
        folder: The run's folder.
        step: The last finished step.
        adapter: The trained adapter after that step.
        optimizer: The optimiser after that step.
        state: What else the next step depends on, JSON.
        records: Marks of the run's records, which include that step and are on the disk.

    Raises:
        TrainingError: The disk is full, or the folder is gone or may not be written to.
    """
    from safetensors.torch import save_file

    root = folder / _FOLDER
    with writing(folder), replacing_folder(root / f"step-{step:06d}") as made:
        save_adapter(adapter, made)
        tensors, numbers = flatten(optimizer.state_dict()["state"])
        save_file(tensors, made / OPTIMIZER_FILE)
        content = to_json({"step": step, "optimizer": numbers, **state})
        (made / STATE_FILE).write_text(seal(content, made, records), encoding="utf-8")
    drop_old(folder)


def renew_marks(folder: Path, step: int, records: Records) -> None:
    """Let the checkpoint of `step` vouch for records that were made after it.

    Raises:
        TrainingError: The disk is full, or the folder is gone or may not be written to.
    """
    file = folder / _FOLDER / f"step-{step:06d}" / STATE_FILE
    with writing(folder):
        write_atomically(file, sealed_again(read_text(file), records))


def drop_old(folder: Path) -> None:
    """Remove all checkpoints but the newest ones, and damaged ones that have been made again."""
    found = checkpoint_folders(folder)
    for old in found[:-KEEP]:
        remove(old)
    newest = step_of(found[-1]) if found else 0
    for damaged in (folder / _FOLDER).glob(f"{DAMAGED}*"):
        if step_of(damaged) <= newest:
            remove(damaged)


def checkpoint_folders(folder: Path) -> list[Path]:
    """The folders of the run's checkpoints, oldest first, whole or damaged."""
    found = (folder / _FOLDER).glob("step-*")
    return sorted((path for path in found if step_of(path) and path.is_dir()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint, also of one that was put aside; 0 for a folder of another name."""
    digits = checkpoint.name.removeprefix(DAMAGED).removeprefix("step-")
    return int(digits) if re.fullmatch(r"[0-9]{6,9}", digits) else 0
