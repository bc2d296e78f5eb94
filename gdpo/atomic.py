"""Files and folders that are written whole or not at all, even when the process is killed or the power fails.

A file that is written to is in the system's memory at first; it survives a power failure after `sync_file`, and its
name after `sync_folder` on the folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def write_atomically(file: Path, content: str | bytes) -> None:
    """Write `content` so that `file` holds either the old or the new content.

    Raises:
        OSError: It cannot be written; the old content stays.
    """
    with replacing_file(file) as stream:
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def replacing_file(file: Path) -> Iterator[IO[bytes]]:
    """Yield a new file, which takes the place of `file` when the block ends without an error.

    Raises:
        OSError: It cannot be written; the old file stays.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as stream:  # never what somebody else has put there
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
        sync_folder(file.parent)
    finally:
        with suppress(OSError):  # the folder itself may be gone; the first error says so
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield a new, empty folder, which takes the place of `folder` when the block ends without an error.

    Its name begins with a dot and that of `folder`. What a killed process has left of it is removed by the next one,
    so two processes must not replace the same folder at once. Between the removal of the old folder and the renaming
    of the new one, neither has the name.

    Raises:
        OSError: It cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    remove(temporary)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in temporary.rglob("*"):
            (sync_folder if path.is_dir() else sync_file)(path)
        sync_folder(temporary)
        remove(folder)
        os.replace(temporary, folder)
        sync_folder(folder.parent)
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a folder with all in it, or whatever else has its name, as far as that can be done.

    `shutil.rmtree` alone opens what it is given, and would wait for ever for a named pipe.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)


def sync_file(file: Path) -> None:
    """Return when the content of `file` is on the disk."""
    _sync(file, os.O_RDWR)  # Windows synchronises only what may be written to


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` are on the disk; Windows, which opens no folders, sees to that itself."""
    if os.name == "posix":
        _sync(folder, os.O_RDONLY)


def _sync(path: Path, access: int) -> None:
    handle = os.open(path, access)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, all of them on the disk when this returns."""
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in absent:
        sync_folder(path.parent)
