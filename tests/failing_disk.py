"""A file system that loses at a power failure what was not synchronised."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

KEPT, LOST = "names kept", "names lost"

Key = tuple[int, int]  # device and inode


class FailingDisk:
    """Watches one folder, and kills the process when its power fails.

    The content of a file is what it was at its last `fsync`, empty without any. With "names kept" the names are those
    of the moment, with "names lost" those of the last `fsync` of each folder. What is left is written beside the
    folder, as `<folder>.left`.
    """

    def __init__(self, folder: Path, operation: int, variant: str) -> None:
        """Fail before the change number `operation`: a synchronisation or a renaming."""
        self._folder, self._left, self._variant = folder, operation, variant
        self._contents: dict[Key, bytes] = {}
        self._names: dict[Key, dict[str, tuple[Key, bool]]] = {}  # with whether it is a folder
        self._held: list[int] = []  # open files, so that no inode is used again
        self._fsync = os.fsync

    def install(self) -> None:
        """Watch from now on; what is in the folder already is on the disk."""
        for path in [self._folder.parent, self._folder, *self._folder.rglob("*")]:
            if path.exists():
                self._take(os.open(path, os.O_RDONLY))
        os.fsync = self._sync
        sys.addaudithook(self._watch)

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(arguments[0]).startswith(str(self._folder)):
            self._count()

    def _sync(self, handle: int) -> None:
        self._count()
        self._fsync(handle)
        path = os.readlink(f"/proc/self/fd/{handle}")
        self._take(os.open(path, os.O_RDONLY))

    def _take(self, handle: int) -> None:
        self._held.append(handle)
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            path = Path(os.readlink(f"/proc/self/fd/{handle}"))
            self._names[_key(os.fstat(handle))] = {
                one.name: (_key(one.stat()), one.is_dir()) for one in path.iterdir()
            }
        else:
            with os.fdopen(os.dup(handle), "rb") as stream:
                stream.seek(0)
                self._contents[_key(os.fstat(handle))] = stream.read()

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            os.fsync = self._fsync
            self._fail()

    def _fail(self) -> None:
        root = self._folder.with_name(f"{self._folder.name}.left")
        if self._variant == KEPT:
            self._rebuild_kept(root)
        else:
            found = self._names[_key(self._folder.parent.stat())].get(self._folder.name)
            if found:
                self._rebuild_lost(root, *found)
        os.kill(os.getpid(), signal.SIGKILL)

    def _rebuild_kept(self, root: Path) -> None:
        root.mkdir()
        for path in sorted(self._folder.rglob("*")):
            target = root / path.relative_to(self._folder)
            if path.is_dir():
                target.mkdir()
            else:
                target.write_bytes(self._contents.get(_key(path.stat()), b""))

    def _rebuild_lost(self, target: Path, key: Key, is_folder: bool) -> None:
        if not is_folder:
            target.write_bytes(self._contents.get(key, b""))
            return
        target.mkdir()
        for name, inner in self._names.get(key, {}).items():
            self._rebuild_lost(target / name, *inner)


def _key(found: os.stat_result) -> Key:
    return found.st_dev, found.st_ino
