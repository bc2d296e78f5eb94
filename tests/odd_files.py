"""Things that stand where a file should, and how a test asks for them without waiting for ever."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from gdpo.errors import GDPOError

SECONDS = 20.0  # none of these takes one; a hang takes for ever


def pipe(place: Path) -> None:
    os.mkfifo(place)


def linked_pipe(place: Path) -> None:
    os.mkfifo(place.with_name("a pipe"))
    place.symlink_to("a pipe")


def linked_zeros(place: Path) -> None:
    place.symlink_to("/dev/zero")


def folder_instead(place: Path) -> None:
    place.mkdir()


ODD = (pipe, linked_pipe, linked_zeros, folder_instead)


def ends(work: Callable[[], object]) -> object:
    """What `work` returns or raises; a failed test, not a blocked one, where it never does."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:  # noqa: BLE001  looked at below
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert found, "it waits for ever"
    return found[0]


def refused(work: Callable[[], object]) -> str:
    """The message of the project's error that `work` must raise."""
    error = ends(work)
    assert isinstance(error, GDPOError), repr(error)
    assert "\n" not in str(error)
    return str(error)


def replace(file: Path, odd: Callable[[Path], None]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    odd(file)
