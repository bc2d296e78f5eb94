"""Which files a workflow may name. Its texts come from strangers; nothing outside the host's folders is touched."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ..gdpo.errors import WorkflowError, shorten
from . import host

# Leaves room for a number, a type and suffixes below the 255 bytes of common file systems.
MAX_NAME = 80  # characters
MAX_NAME_BYTES = 180
PROMPT_SUFFIXES = frozenset({".jsonl", ".csv", ".txt"})
_MAX_DEPTH = 3  # folders below a root that are looked into
_MAX_ENTRIES = 1000
_PLAIN = re.compile(r"[^\W_][\w.+ -]*")  # a letter or digit of any script first; no separators
# Names that Windows gives to devices, in any folder and with any suffix.
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE
)


def safe_name(name: str, what: str) -> str:
    """`name` without surrounding spaces, if every file system takes it as the name of one file.

    Args:
        name: text from a workflow.
        what: how the message calls it, e.g. "run_name".

    Raises:
        WorkflowError: it is empty, too long, a path, or reserved.
    """
    cleaned = name.strip()
    problem = ""
    if not cleaned:
        problem = "is empty"
    elif len(cleaned) > MAX_NAME or len(cleaned.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        problem = f"is longer than {MAX_NAME} characters or {MAX_NAME_BYTES} bytes"
    elif not _PLAIN.fullmatch(cleaned) or cleaned.endswith("."):
        problem = "is not a plain name"
    elif _RESERVED.fullmatch(cleaned):
        problem = "is a name that Windows reserves"
    if problem:
        raise WorkflowError(
            f"{what} {problem}: {shorten(name)}; use letters and digits, with - _ + . between them"
        )
    return cleaned


def name_verdict(name: str | None, what: str) -> bool | str:
    """What `VALIDATE_INPUTS` answers for a name; a linked one (None) is checked when it arrives."""
    try:
        if name is not None:
            safe_name(name, what)
    except WorkflowError as error:
        return str(error)
    return True


def resolve_output(*names: str, what: str = "name") -> Path:
    """The folder or file `<output>/gdpo/<names...>`, each name checked, symlinks followed.

    Raises:
        WorkflowError: a name is not safe, or a symlink leads out of the output folder.
    """
    root = host.folders().output.resolve()
    path = root.joinpath("gdpo", *(safe_name(name, what) for name in names)).resolve()
    if not path.is_relative_to(root):
        raise WorkflowError(
            f"{what} {shorten(names[-1])} leads out of the output folder by a symlink"
        )
    return path


def unused_name(name: str, is_taken: Callable[[str], bool]) -> str:
    """`name`, or with the first free number (`name-2`, ...): outputs are never overwritten."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if not is_taken(one))


def list_models() -> dict[str, Path]:
    """Hugging Face model folders below the host's model folders, by relative path; the first root wins."""
    found: dict[str, Path] = {}
    for root in host.folders().models:
        for folder in _walk(root):
            if (folder / "config.json").is_file():
                found.setdefault(folder.relative_to(root).as_posix(), folder)
    return dict(sorted(found.items()))


def list_prompt_files() -> dict[str, Path]:
    """Prompt files below the host's input folder, by relative path. A symlink must not lead out of it."""
    root = host.folders().inputs
    inside = root.resolve()
    found: dict[str, Path] = {}
    for folder in [root, *_walk(root)]:
        for path in _entries(folder):
            good = path.suffix.lower() in PROMPT_SUFFIXES and path.is_file()
            if good and path.resolve().is_relative_to(inside):
                found[path.relative_to(root).as_posix()] = path
    return dict(sorted(found.items()))


def _walk(root: Path, depth: int = _MAX_DEPTH) -> Iterator[Path]:
    """The folders below `root`; a model folder is not looked into."""
    for path in _entries(root):
        if path.is_dir():
            yield path
            if depth > 1 and not (path / "config.json").is_file():
                yield from _walk(path, depth - 1)


def _entries(folder: Path) -> list[Path]:
    """The visible entries; none where the folder cannot be read: a list in a page must not fail."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []
    return [folder / name for name in sorted(names)[:_MAX_ENTRIES]]
