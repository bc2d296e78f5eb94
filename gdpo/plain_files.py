"""Opens files that may come from strangers: regular files alone, and no more of them than is asked for.

A named pipe keeps whoever opens it waiting for ever, and a device such as /dev/zero never ends. Either can have the
name of any file in a folder that was handed over, and can lie behind a symlink.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

# No configuration or state that the pack reads as a whole is larger.
MAX_BYTES = 64 * 2**20

# Opening never waits; and none of a caller's processes inherits the file.
_FLAGS = ("O_NONBLOCK", "O_CLOEXEC", "O_NOINHERIT", "O_NOCTTY", "O_BINARY")
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class PlainFileError(OSError):
    """A file is not read because of what it is; the message says why, without the file's name.

    It is an OSError, so that whoever reads a file raises it as the error of their own boundary, with their own remedy.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EINVAL, reason)

    def __str__(self) -> str:
        return str(self.strerror)


def check_plain(file: Path) -> None:
    """Refuse what is no regular file, behind symlinks too; for files that a library opens by their names.

    Raises:
        PlainFileError: It is a folder, a named pipe, a socket or a device.
        OSError: It is absent or cannot be looked at.
    """
    _check(os.stat(file))


def open_plain(file: Path) -> BinaryIO:
    """Open a regular file for reading, without ever waiting for it.

    Raises:
        PlainFileError: It is a folder, a named pipe, a socket or a device.
        OSError: It is absent or cannot be read.
    """
    check_plain(file)  # opening alone makes some devices act
    stream = open(file, "rb", opener=_open)  # noqa: SIM115  the caller closes it
    try:
        _check(os.fstat(stream.fileno()))
    except BaseException:
        stream.close()
        raise
    return stream


def read_bytes(file: Path, limit: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file.

    Args:
        file: Path of the file.
        limit: Largest number of bytes; no more than one more is read.

    Raises:
        PlainFileError: It is no regular file, or larger.
        OSError: It is absent or cannot be read.
    """
    with open_plain(file) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        whole = limit % 2**20 == 0
        shown = f"{limit // 2**20} MiB" if whole else f"{limit} bytes"
        raise PlainFileError(f"it has more than {shown}")
    return data


def read_text(file: Path, limit: int = MAX_BYTES) -> str:
    """Return the content of a regular file as text, all line ends alike.

    Args:
        file: Path of the file, in UTF-8.
        limit: Largest number of bytes.

    Raises:
        PlainFileError: It is no regular file, or larger.
        OSError: It is absent or cannot be read.
        UnicodeDecodeError: It is not UTF-8.
    """
    text = read_bytes(file, limit).decode("utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _open(path: str, flags: int) -> int:
    for name in _FLAGS:
        flags |= getattr(os, name, 0)
    return os.open(path, flags)


def _check(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise PlainFileError(f"it is {kind}, not a file")
