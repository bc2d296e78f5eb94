"""Folders for a while, which the next process removes where theirs was killed.

Whoever has such a folder holds a lock on a file in it. The system releases a lock when its holder dies, so a folder
whose lock can be taken belongs to nobody.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXPORT_PREFIX = ".export-"  # beginning of the folder of an export
_LOCK = ".lock"
_ABANDONED_SECONDS = 86400.0  # of a folder without a lock, such as older versions made


@contextmanager
def scratch_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder, removed afterwards together with those that killed processes left.

    Args:
        prefix: Beginning of the name; nothing else may have names that begin with it.
        parent: Where to make it; None: the system's folder for temporary files.

    Raises:
        OSError: It cannot be made.
    """
    from filelock import FileLock

    root = Path(tempfile.gettempdir()) if parent is None else parent
    remove_leftovers(root, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root)).absolute()
    try:
        with FileLock(folder / _LOCK, timeout=0, thread_local=False):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(root: Path, prefix: str) -> None:
    """Remove the folders in `root` that a killed process left; folders in use and of other users stay."""
    try:
        found = [path for path in root.iterdir() if path.name.startswith(prefix)]
    except OSError:
        return
    for path in found:
        if _is_ours(path) and _is_abandoned(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    """Whether it is a folder of this user's; anybody can put names into a shared temporary folder."""
    if path.is_symlink() or not path.is_dir():
        return False
    try:
        return os.name != "posix" or path.stat().st_uid == os.getuid()
    except OSError:
        return False


def _is_abandoned(folder: Path) -> bool:
    from filelock import FileLock, Timeout

    lock = folder / _LOCK
    try:
        if lock.is_symlink() or not lock.is_file():
            return time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS
        with FileLock(lock, timeout=0, thread_local=False):
            return True
    except (Timeout, OSError):
        return False
