"""A run's folder: its lock, its checkpoints and its records.

The same settings continue the run in it, other settings are refused: nothing that was trained is overwritten.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import replacing_folder, write_atomically
from ..errors import TrainingError
from ..policies.adapter import Adapter, save_adapter
from .history import (
    COMPLETIONS_FILE,
    HISTORY_FILE,
    append_line,
    read_history,
    rewind,
)
from .record import CompletionRecord, Evaluation, StepRecord
from .run_file import RUN_FILE, check_identity, read_identity


@dataclass(frozen=True)
class Run:
    """An opened, locked run folder."""

    folder: Path

    def append(self, record: StepRecord) -> None:
        """Append one record, plain JSON, to the history."""
        append_line(self.folder / HISTORY_FILE, record)

    def append_completions(self, records: Sequence[CompletionRecord]) -> None:
        """Append sampled completions with their rewards, plain JSON."""
        for record in records:
            append_line(self.folder / COMPLETIONS_FILE, record)

    def rewind(self, step: int) -> None:
        """Drop what was recorded after `step`."""
        rewind(self.folder, step)

    def evaluations(self, names: Sequence[str]) -> dict[int, Evaluation]:
        """Every evaluation so far, by its step.

        Args:
            names: The rewards of the run.

        Raises:
            TrainingError: The history is damaged, or of other rewards.
        """
        return {r["step"]: r["eval"] for r in read_history(self.folder, names) if "eval" in r}

    def finish(self, adapter: Adapter) -> None:
        """Write the final adapter, whole or not at all."""
        with replacing_folder(self.folder / "adapter") as folder:
            save_adapter(adapter, folder)


@contextmanager
def opened_run(folder: Path, content: dict[str, Any]) -> Iterator[Run]:
    """Make the run's folder or take up the run in it, locked against a second training.

    Args:
        folder: Of the run.
        content: What `run.json` shall say, from `describe_run`; a run that is there must have the same identity.

    Raises:
        TrainingError: Another training uses the folder, or the run in it has other settings.
    """
    from filelock import FileLock, Timeout

    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"The run folder {str(folder)!r} cannot be made ({error.strerror}); free space or choose another output "
            "folder."
        ) from error
    lock = FileLock(folder / ".lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise TrainingError(
            f"The run {folder.name!r} is being trained right now; wait for it or choose another `run_name`."
        ) from error
    try:
        file = folder / RUN_FILE
        if file.is_file():
            check_identity(folder, read_identity(folder), content["identity"])
        else:
            write_atomically(file, json.dumps(content, indent=1, ensure_ascii=False))
        for torn in (folder / "checkpoints").glob(".step-*"):  # left by a process that was killed
            shutil.rmtree(torn, ignore_errors=True)
        yield Run(folder)
    finally:
        lock.release()
