"""Which folder a training of some name goes on in, or begins in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from .history import HISTORY_FILE
from .rows import compare
from .run_file import RUN_FILE, read_run


def choose_folder(
    root: Path, name: str, identity: dict[str, Any], *, fresh: bool, steps: int = 0
) -> Path:
    """The folder in which a training called `name` goes on or begins; nothing is made or changed.

    The runs of a name are `name`, `name-2`, `name-3` and so on in `root`. A number is never used again, so the
    highest is the newest.

    Args:
        root: Holds the runs. What leads out of it by a symlink is neither read nor chosen.
        name: A plain file name.
        identity: From `identify`.
        fresh: Begin a new run even where there is an equal one.
        steps: How many steps the run shall have; while fewer are made, rows that it has not used may be other ones.

    Returns:
        The newest run that goes on with `identity`, else the next name that no run has.
    """
    return root / choose_name(root, name, identity, fresh=fresh, steps=steps)[0]


def choose_name(
    root: Path, name: str, identity: dict[str, Any], *, fresh: bool, steps: int = 0
) -> tuple[str, str]:
    """The name of the folder that `choose_folder` chooses, and why not that of the newest run.

    The reason is a clause; it is empty where the newest run goes on, where there is none, and with `fresh`.
    """
    numbers = sorted(_run_numbers(root, name))
    newest = ""
    for number in [] if fresh else reversed(numbers):
        folder = root / _numbered(name, number)
        why = _why_not(root, folder, identity, steps)
        if not why:
            return folder.name, newest
        newest = newest or f"{folder.name} does not go on: {why}"
    return _numbered(name, numbers[-1] + 1 if numbers else 1), newest


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


def _why_not(root: Path, folder: Path, identity: dict[str, Any], steps: int) -> str:
    """Why the run in `folder` cannot go on with this identity, as a clause; empty if it can."""
    file = folder / RUN_FILE
    try:
        if not file.resolve(strict=True).is_relative_to(root.resolve()):
            return "it leads out of the output folder by a symlink"
        changed = compare(folder, read_run(folder), identity, steps).changed
    except OSError as error:  # absent or damaged: left alone
        return f"its {RUN_FILE} cannot be read ({error.strerror})"
    except TrainingError as error:
        return str(error).rstrip(".")
    return changed and f"it has {changed}"
