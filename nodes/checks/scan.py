"""Reads folders of any size for the menus of the page, within bounds.

ComfyUI asks for the menus at every start of the page and before every run. A folder may hold a million
files, because somebody's program wrote them there or because a stranger's archive was unpacked in it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

MAX_NAMES = 50_000  # that one list reads in all
MAX_FOLDERS = 1000  # that it reads them from

Enter = Callable[["os.DirEntry[str]"], bool]


def _visible(folder: Path | str, most: int) -> tuple[list[os.DirEntry[str]], int]:
    """Return the visible entries among the first `most` of a folder by their names, and how many were read.

    There are none where the folder cannot be read: a list in a page must not fail.
    """
    try:
        with os.scandir(folder) as entries:
            read = list(islice(entries, most))
    except OSError:
        return [], 0
    shown = (entry for entry in read if not entry.name.startswith("."))
    return sorted(shown, key=lambda entry: entry.name), len(read)


def below(root: Path, depth: int, enter: Enter) -> Iterator[os.DirEntry[str]]:
    """Yield the visible entries below `root`, level by level, until `MAX_NAMES` have been read.

    Args:
        root: the folder to begin with; it may be absent.
        depth: levels of folders that are read, that of `root` included.
        enter: tells whether an entry is a folder to be read.
    """
    waiting: deque[tuple[Path | str, int]] = deque([(root, 1)])
    left = MAX_NAMES
    for _ in range(MAX_FOLDERS):
        if not waiting or left <= 0:
            return
        folder, level = waiting.popleft()
        entries, read = _visible(folder, left)
        left -= read
        for entry in entries:
            yield entry
            if level < depth and len(waiting) < MAX_FOLDERS and enter(entry):
                waiting.append((entry.path, level + 1))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder; one that may be listed but not looked at is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
