"""A run's folder: its lock, its checkpoints and its records.

The same settings and used rows continue the run in it, others are refused: nothing that was trained is overwritten.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..atomic import make_folder, replacing_folder, write_atomically
from ..errors import TrainingError
from ..plain_files import check_plain
from ..policies.adapter import Adapter, save_adapter
from ..scratch import EXPORT_PREFIX, remove_leftovers
from .checkpoints import checkpoint_folders
from .disk import remove_strays, writing
from .history import COMPLETIONS_FILE, HISTORY_FILE, length_until, read_history
from .journal import Journal
from .record import CompletionRecord, StepRecord
from .rows import Comparison, check_run, compare
from .run_file import RUN_FILE, read_run
from .seal import Records


class Run:
    """An opened, locked run folder; `cut` has to come before anything is appended.

    Attributes:
        folder: The folder.
        content: Of its `run.json`.
        told: A sentence on the rows, where the run goes on with other ones.
    """

    def __init__(self, folder: Path, found: Comparison) -> None:
        """Take up the run in `folder`, whose `run.json` says what was found."""
        self.folder, self.content, self.told = folder, found.content, found.told
        self._history = Journal(folder / HISTORY_FILE)
        self._completions = Journal(folder / COMPLETIONS_FILE)

    def append(self, record: StepRecord) -> None:
        """Append one record, plain JSON, to the history."""
        self._history.append(record)

    def append_completions(self, records: Sequence[CompletionRecord]) -> None:
        """Append sampled completions with their rewards, plain JSON."""
        for record in records:
            self._completions.append(record)

    def marks(self) -> Records:
        """How far the records are written, after all of them have reached the disk."""
        return {"history": self._history.mark(), "completions": self._completions.mark()}

    def cut(self, step: int, records: Records | None) -> None:
        """Drop what was recorded after a checkpoint: a resumed run makes it again. What stays is not changed.

        Args:
            step: Step of the checkpoint; 0 without one.
            records: Marks in the checkpoint; None where it has none.

        Raises:
            TrainingError: A file is shorter than its mark, damaged, or cannot be written.
        """
        if records:
            lengths = records["history"]["bytes"], records["completions"]["bytes"]
        else:
            lengths = length_until(self.folder, step) if step else (0, 0)
        self._history.cut(lengths[0])
        self._completions.cut(lengths[1])

    def history(self, names: Sequence[str]) -> tuple[StepRecord, ...]:
        """One record for each step so far.

        Args:
            names: The rewards of the run.

        Raises:
            TrainingError: The history is damaged, or of other rewards.
        """
        return read_history(self.folder, names)

    def finish(self, adapter: Adapter) -> None:
        """Write the final adapter, whole or not at all."""
        with writing(self.folder), replacing_folder(self.folder / "adapter") as made:
            save_adapter(adapter, made)


@contextmanager
def opened_run(folder: Path, content: dict[str, Any], steps: int = 0) -> Iterator[Run]:
    """Make the run's folder or take up the run in it, locked against a second training.

    Args:
        folder: Of the run.
        content: What `run.json` shall say, from `describe_run`; a run that is there must have the same identity.
        steps: How many steps the run shall have; while fewer are made, rows that it has not used may be other ones.

    Raises:
        TrainingError: Another training uses the folder, or the run in it has other settings.
    """
    with writing(folder):
        make_folder(folder / "checkpoints")
        lock = _lock(folder)
    try:
        yield Run(folder, _begin_or_check(folder, content, steps))
    finally:
        lock.release()


def check_before(folder: Path, content: dict[str, Any], steps: int) -> None:
    """Refuse as `opened_run` would, as far as can be told without a change of the folder, which need not be there.

    Raises:
        TrainingError: Another training uses the folder, or the run in it has other settings.
    """
    if os.path.lexists(folder / ".lock"):
        with writing(folder):
            _lock(folder).release()
    if (folder / RUN_FILE).is_file():
        check_run(folder, compare(folder, read_run(folder), content["identity"], steps))


def _lock(folder: Path) -> Any:
    """Lock a folder against a second training; released by what is returned."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=0, thread_local=False)
    if os.path.lexists(folder / ".lock"):
        check_plain(folder / ".lock")
    try:
        lock.acquire()
    except Timeout as error:
        raise TrainingError(
            f"The run {folder.name!r} is being trained right now; wait for it or choose another `run_name`."
        ) from error
    return lock


def _begin_or_check(folder: Path, content: dict[str, Any], steps: int) -> Comparison:
    """Clean up after killed processes, and write `run.json` or compare with it."""
    with writing(folder):
        for inside in (folder, folder / "checkpoints", *checkpoint_folders(folder)):
            remove_strays(inside)
        for inner in folder.iterdir():  # exports that were killed
            if inner.is_dir() and not inner.is_symlink():
                remove_leftovers(inner, EXPORT_PREFIX)
        if not (folder / RUN_FILE).is_file() and not _is_begun(folder):
            _write(folder, content)
            return Comparison("", content)
    found = compare(folder, read_run(folder), content["identity"], steps)
    check_run(folder, found)
    if found.told:
        with writing(folder):
            _write(folder, found.content)
    return found


def _write(folder: Path, content: Mapping[str, Any]) -> None:
    write_atomically(folder / RUN_FILE, json.dumps(content, indent=1, ensure_ascii=False))


def _is_begun(folder: Path) -> bool:
    """Whether a training has left something here that only its `run.json` can tell from another's."""
    history = folder / HISTORY_FILE
    return bool(checkpoint_folders(folder)) or (history.is_file() and history.stat().st_size > 0)
