"""Append-only files of JSON lines whose content a checkpoint can vouch for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

from ..atomic import sync_file, sync_folder
from ..errors import TrainingError
from ..plain_files import check_plain, open_plain
from .disk import writing

_BLOCK = 2**20


class Mark(TypedDict):
    """How far a file was written at some moment, and what it held.

    Attributes:
        bytes: Length of the file.
        sha256: SHA-256 of its content, in hexadecimal.
    """

    bytes: int
    sha256: str


class Journal:
    """One file of JSON lines that one training writes, with a running digest of what it wrote."""

    def __init__(self, file: Path) -> None:
        """Take up `file` as it will be after `cut`."""
        self.file = file
        self._bytes, self._digest = 0, hashlib.sha256()

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one record, plain JSON, and hand it to the operating system at once.

        Raises:
            TrainingError: The file cannot be written, or something else has changed it.
        """
        data = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
        with writing(self.file.parent):
            self._write(data)
        self._bytes += len(data)
        self._digest.update(data)

    def mark(self) -> Mark:
        """How far the file is written, after all of it has reached the disk.

        Raises:
            TrainingError: The file cannot be written, or something else has changed it.
        """
        with writing(self.file.parent):
            self._check_length(self.file.stat().st_size)
            sync_file(self.file)
            sync_folder(self.file.parent)
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}

    def cut(self, length: int) -> None:
        """Drop everything after the first `length` bytes; make the file if there is none.

        Raises:
            TrainingError: The file cannot be written, or is shorter.
        """
        with writing(self.file.parent):
            if os.path.lexists(self.file):
                check_plain(self.file)
            self.file.touch()
            if self.file.stat().st_size > length:
                os.truncate(self.file, length)
                sync_file(self.file)
        digest, size = digest_prefix(self.file, length)
        if size != length:
            raise TrainingError(
                f"{str(self.file)!r} has {size} bytes where the checkpoint says {length}; restore the file, or train "
                "under another `run_name`."
            )
        self._bytes, self._digest = length, digest

    def _write(self, data: bytes) -> None:
        """Append all of the data or, where the disk is full, none of it."""
        try:
            with self.file.open("ab") as stream:
                self._check_length(stream.tell())
                stream.write(data)
        except TrainingError:
            raise
        except BaseException:
            with suppress(OSError):
                os.truncate(self.file, self._bytes)
            raise

    def _check_length(self, found: int) -> None:
        if found != self._bytes:
            raise TrainingError(
                f"{str(self.file)!r} was changed during the training ({found} bytes where {self._bytes} were "
                "written); leave the run's folder alone and start again: the training goes on from its last "
                "checkpoint."
            )


def holds(file: Path, mark: Mark) -> bool:
    """Whether `file` still begins with what it held when `mark` was taken.

    Raises:
        OSError: The file cannot be read.
    """
    digest, size = digest_prefix(file, mark["bytes"])
    return size == mark["bytes"] and digest.hexdigest() == mark["sha256"]


def digest_prefix(file: Path, length: int | None = None) -> tuple[Any, int]:
    """SHA-256 of the first `length` bytes of a file (None: of all of it), and how many bytes these were.

    A file that is absent counts as empty.
    """
    digest, left = hashlib.sha256(), length
    size = 0
    if file.is_file():
        with open_plain(file) as stream:
            while block := stream.read(_BLOCK if left is None else min(left, _BLOCK)):
                digest.update(block)
                size += len(block)
                left = None if left is None else left - len(block)
    return digest, size
