"""Which files a workflow may name. Its texts come from strangers; nothing outside the host's folders is touched."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_ISREG

from ...gdpo.errors import WorkflowError, shorten
from ...gdpo.runs.history import HISTORY_FILE
from ...gdpo.unpacking.parts import is_gguf, is_later_part
from ..comfy import host
from .scan import below, is_folder

# Leaves room for a number, a type and suffixes below the 255 bytes of common file systems.
MAX_NAME = 80  # characters
MAX_NAME_BYTES = 180
PROMPT_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet"})
_MAX_DEPTH = 3  # levels of folders below a root
_MAX_LISTED = 1000  # entries of a menu
_MAX_WRITTEN = 10_000  # files in a folder that a node writes to
_PLAIN = re.compile(r"[^\W_][\w.+ -]*")  # a letter or digit of any script first; no separators
# Names that Windows gives to devices, in any folder, with any suffix and with spaces before it.
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE
)


def safe_name(name: object, what: str) -> str:
    """`name` without surrounding spaces, if every file system takes it as the name of one file.

    Args:
        name: text from a workflow.
        what: how the message calls it, e.g. "run_name".

    Raises:
        WorkflowError: it is no text, empty, too long, a path, or reserved.
    """
    if not isinstance(name, str):
        raise WorkflowError(f"{what} must be text, found {shorten(name)}")
    cleaned = name.strip()
    problem = ""
    if not cleaned:
        problem = "is empty"
    elif len(cleaned) > MAX_NAME or len(cleaned.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        problem = f"is longer than {MAX_NAME} characters or {MAX_NAME_BYTES} bytes"
    elif not _PLAIN.fullmatch(cleaned) or cleaned.endswith("."):
        problem = "is not a plain name"
    elif _RESERVED.fullmatch(unicodedata.normalize("NFKC", cleaned)):
        problem = "is a name that Windows reserves"
    if problem:
        raise WorkflowError(
            f"{what} {problem}: {shorten(name)}; use letters and digits, with - _ + . between them"
        )
    return cleaned


def name_verdict(name: object, what: str) -> bool | str:
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
    path = root.joinpath("gdpo", *(safe_name(name, what) for name in names))
    if not _is_inside(path, root):
        raise WorkflowError(
            f"{what} {shorten(names[-1])} leads out of the output folder by a symlink"
        )
    return path.resolve()


def check_tree(folder: Path, what: str) -> None:
    """Refuse a folder that nodes write to, if it or anything in it leads out of the output folder.

    Nobody makes such a symlink by a workflow, but a folder that was copied from elsewhere may hold one.

    Raises:
        WorkflowError: a symlink leads out, which the message names; or no run has so many files.
    """
    root = host.folders().output.resolve()
    inside = (
        Path(parent) / name
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
    )
    for number, path in enumerate(itertools.chain([folder], inside)):
        if number > _MAX_WRITTEN:
            raise WorkflowError(
                f"{what}: {shorten(folder.name)} holds more than {_MAX_WRITTEN} files; choose another name"
            )
        if not _is_inside(path, root):
            shown = shorten(str(path.relative_to(folder.parent)))
            raise WorkflowError(
                f"{what}: {shown} leads out of the output folder by a symlink; remove the link or "
                "choose another name"
            )


def _is_inside(path: Path, root: Path) -> bool:
    """Whether `path`, symlinks followed, is below the resolved `root`; a ring of symlinks is not."""
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def unused_name(name: str, is_taken: Callable[[str], bool]) -> str:
    """`name`, or with the first free number (`name-2`, ...): outputs are never overwritten."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if not is_taken(one))


def list_models() -> dict[str, Path]:
    """Model folders and GGUF files below the host's model folders, by relative path; the first root wins."""
    found: dict[str, Path] = {}
    for root in host.folders().models:
        for entry in below(root, _MAX_DEPTH, lambda one: is_folder(one) and not _is_model(one)):
            for path in _models_at(entry):
                if len(found) < _MAX_LISTED:
                    found.setdefault(path.relative_to(root).as_posix(), path)
    return dict(sorted(found.items()))


def _models_at(entry: os.DirEntry[str]) -> Iterator[Path]:
    """Yield the model that an entry is; and those in a model's folder, which is not read like others."""
    if is_folder(entry) and _is_model(entry):
        yield Path(entry.path)
        yield from (
            Path(one.path) for one in below(Path(entry.path), 1, lambda _: False) if _is_gguf(one)
        )
    elif _is_gguf(entry):
        yield Path(entry.path)


def _is_gguf(entry: os.DirEntry[str]) -> bool:
    """Tell whether it is a GGUF file that may be a language model, or the first part of one."""
    path, other = Path(entry.name), is_later_part(entry.name) or "mmproj" in entry.name.lower()
    return is_gguf(path) and not other and os.path.isfile(entry.path)


def _is_model(entry: os.DirEntry[str]) -> bool:
    return os.path.isfile(os.path.join(entry.path, "config.json"))


def list_prompt_files() -> dict[str, Path]:
    """Prompt files below the host's input folder, by relative path. A symlink must not lead out of it."""
    root = host.folders().inputs
    inside = root.resolve()
    found: dict[str, Path] = {}
    # One level more than of models: there the folders count, here what is in them.
    for entry in below(
        root, _MAX_DEPTH + 1, lambda one: is_folder(one) and _is_inside(Path(one.path), inside)
    ):
        path = Path(entry.path)
        is_wanted = len(found) < _MAX_LISTED and path.suffix.lower() in PROMPT_SUFFIXES
        if is_wanted and os.path.isfile(path) and _is_inside(path, inside):
            found[path.relative_to(root).as_posix()] = path
    return dict(sorted(found.items()))


def list_runs(root: Path) -> list[str]:
    """Names of the folders in `root` that hold a run's history, the newest first; must not fail."""
    found: list[tuple[float, str]] = []
    for entry in below(root, 1, lambda _: False):
        if is_folder(entry):
            with contextlib.suppress(OSError):  # no run, or one that was deleted just now
                changed = os.stat(os.path.join(entry.path, HISTORY_FILE))
                found += [(-changed.st_mtime, entry.name)] if S_ISREG(changed.st_mode) else []
    return [name for _, name in sorted(found)]
