"""Measurements for `test_children.py`, which runs them in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.common.children import answer


def echo(
    text: str, folder: Path, number: int, share: float, sizes: list, switch: bool = False
) -> dict:
    """Give back what arrived, and its types."""
    given = [text, str(folder), number, share, sizes, switch]
    return {"values": given, "path": isinstance(folder, Path), "x": os.environ.get("GDPO_TEST_X")}


def where() -> str:
    """Name the Python that runs this."""
    return sys.executable


def fail() -> None:
    """Fail with a last line."""
    raise ValueError("100 % of it went wrong")


def die() -> None:
    """End as a process does that the system kills."""
    os.kill(os.getpid(), signal.SIGKILL)


def sleep() -> None:
    """Take longer than any test waits."""
    time.sleep(600)


if __name__ == "__main__":
    answer(echo, where, fail, die, sleep)
