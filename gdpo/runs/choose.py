"""Which folder a training of some name goes on in, or begins in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from .history import HISTORY_FILE
from .run_file import RUN_FILE, differences, read_identity


def choose_folder(root: Path, name: str, identity: dict[str, Any], *, fresh: bool) -> Path:
    """The folder in which a training called `name` goes on or begins; nothing is made or changed.

    The runs of a name are `name`, `name-2`, `name-3` and so on in `root`. A number is never used again, so the
    highest is the newest.

    Args:
        root: Holds the runs. What leads out of it by a symlink is neither read nor chosen.
        name: A plain file name.
        identity: From `identify`.
        fresh: Begin a new run even where there is an equal one.

    Returns:
        The newest run that is equal to `identity`, else the next name that no run has.
    """
    numbers = sorted(_run_numbers(root, name))
    for number in [] if fresh else reversed(numbers):
        folder = root / _numbered(name, number)
        if _is_equal_run(root, folder, identity):
            return folder
    return root / _numbered(name, numbers[-1] + 1 if numbers else 1)


def _run_numbers(root: Path, name: str) -> Iterator[int]:
    """The numbers that runs of this name have; upper and lower case are one on many file systems."""
    pattern = re.compile(rf"{re.escape(name)}(?:-([1-9][0-9]{{0,8}}))?", re.IGNORECASE)
    for entry in root.iterdir() if root.is_dir() else ():
        match = pattern.fullmatch(entry.name)
        if match and (entry.is_symlink() or not entry.is_dir() or _holds_run(entry)):
            yield int(match[1] or 1)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _holds_run(folder: Path) -> bool:
    """Whether a training has begun here; a folder of exported files alone is still free."""
    return any((folder / file).exists() for file in (RUN_FILE, HISTORY_FILE, "adapter"))


def _is_equal_run(root: Path, folder: Path, identity: dict[str, Any]) -> bool:
    file = folder / RUN_FILE
    try:
        inside = file.resolve(strict=True).is_relative_to(root.resolve())
        return inside and not differences(read_identity(folder), identity)
    except (OSError, TrainingError):  # absent or damaged: left alone
        return False
