"""Files and folders that are written whole or not at all, even when the process is killed in the middle."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
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
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in filter(Path.is_file, temporary.rglob("*")):
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
