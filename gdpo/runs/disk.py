"""What goes wrong with a run's folder: errors of the disk, and what killed processes left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..atomic import remove
from ..errors import TrainingError, shorten

# Names of what a process leaves that is killed while it writes.
_STRAY = re.compile(r"\.(?:.+\.)?tmp", re.DOTALL)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what a disk raises inside the block into one line with the remedy.

    Raises:
        TrainingError: The disk is full, or the folder is gone or may not be written to.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise TrainingError(
            f"The run folder {str(folder)!r} cannot be written ({shorten(reason, 120)}); free space or restore the "
            "folder and its permissions, then start again: the training goes on from its last checkpoint."
        ) from error


def remove_strays(folder: Path) -> None:
    """Remove what a killed process left half written in `folder`; nobody else may be writing there."""
    for path in folder.iterdir():
        if _STRAY.fullmatch(path.name):
            remove(path)
