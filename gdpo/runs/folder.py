"""A run's folder: its identity, its lock, its checkpoints, its records.

`run.json` says what the run is. The same settings continue it, other settings are refused: nothing that was
trained is overwritten. Only `steps` may differ, so that a finished run can be made longer. `choose_folder`
finds the run to continue among those of one name, or the name of a new one.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import TrainingError, shorten
from ..objective.objective import Objective
from ..policies.adapter import Adapter, save_adapter
from ..policies.policy import Policy
from ..prompts import Prompt
from ..rewards.reward import to_json
from ..settings import TrainSettings
from .history import (
    COMPLETIONS_FILE,
    HISTORY_FILE,
    append_line,
    read_history,
    rewind,
    write_atomically,
)
from .record import CompletionRecord, Evaluation, StepRecord

RUN_FILE = "run.json"
_LIBRARIES = ("torch", "transformers", "peft", "torchjd", "bitsandbytes")


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
        final, temporary = self.folder / "adapter", self.folder / ".adapter.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        save_adapter(adapter, temporary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.replace(final)


@contextmanager
def open_run(
    folder: Path, identity: dict[str, Any], workflow: dict[str, Any] | None
) -> Iterator[Run]:
    """Make the run's folder or take up the run in it, locked against a second training.

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
            _check_identity(folder, _read_identity(file), identity)
        else:
            content = {"identity": identity, "versions": _versions(), "workflow": workflow}
            write_atomically(file, json.dumps(content, indent=1, ensure_ascii=False))
        for torn in (folder / "checkpoints").glob(".step-*"):  # left by a process that was killed
            shutil.rmtree(torn, ignore_errors=True)
        yield Run(folder)
    finally:
        lock.release()


def identify(
    policy: Policy,
    prompts: Sequence[Prompt],
    heldout: Sequence[Prompt],
    objective: Objective,
    settings: TrainSettings,
) -> dict[str, Any]:
    """Everything that a run's result depends on, as JSON."""
    options = {k: v for k, v in asdict(settings).items() if k != "steps"}
    adapter = None
    if policy.adapter:
        digest = hashlib.sha256()
        for name, tensor in sorted(policy.adapter.state.items()):
            digest.update(name.encode() + tensor.float().numpy().tobytes())
        adapter = digest.hexdigest()
    return {
        "model": Path(policy.base.source).name,
        "weights": policy.base.digest,
        "precision": policy.base.precision,
        "adapter": adapter,
        "prompts": _digest(prompts),
        "heldout": _digest(heldout),
        "rewards": [to_json(reward) for reward in objective.rewards],
        "method": objective.method.name,
        "weighting": objective.weighting.name,
        "dispersion_floor": objective.dispersion_floor,
        "settings": options,
    }


def _digest(prompts: Sequence[Prompt]) -> str:
    text = json.dumps([[p.messages, dict(p.fields)] for p in prompts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def choose_folder(root: Path, name: str, identity: dict[str, Any], *, fresh: bool) -> Path:
    """The folder in which a training called `name` goes on or begins; nothing is made or changed.

    The runs of a name are `name`, `name-2`, `name-3` and so on in `root`. A number is never used again, so the
    highest is the newest.

    Args:
        root: Holds the runs. What leads out of it by a symlink is neither read nor chosen.
        name: A plain file name.
        identity: From `identify`.
        fresh: Begin a new run even where there is an equal one.

    Returns:
        The newest run that is equal to `identity`, else the next name that no run has.
    """
    numbers = sorted(_run_numbers(root, name))
    for number in [] if fresh else reversed(numbers):
        folder = root / _numbered(name, number)
        if _is_equal_run(root, folder, identity):
            return folder
    return root / _numbered(name, numbers[-1] + 1 if numbers else 1)


def _run_numbers(root: Path, name: str) -> Iterator[int]:
    """The numbers that runs of this name have; upper and lower case are one on many file systems."""
    pattern = re.compile(rf"{re.escape(name)}(?:-([1-9][0-9]{{0,8}}))?", re.IGNORECASE)
    for entry in root.iterdir() if root.is_dir() else ():
        match = pattern.fullmatch(entry.name)
        if match and (entry.is_symlink() or not entry.is_dir() or _holds_run(entry)):
            yield int(match[1] or 1)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def _holds_run(folder: Path) -> bool:
    """Whether a training has begun here; a folder of exported files alone is still free."""
    return any((folder / file).exists() for file in (RUN_FILE, HISTORY_FILE, "adapter"))


def _is_equal_run(root: Path, folder: Path, identity: dict[str, Any]) -> bool:
    file = folder / RUN_FILE
    try:
        inside = file.resolve(strict=True).is_relative_to(root.resolve())
        return inside and not _differences(_read_identity(file), identity)
    except (OSError, TrainingError):  # absent or damaged: left alone
        return False


def _read_identity(file: Path) -> dict[str, Any]:
    try:
        identity = json.loads(file.read_text(encoding="utf-8"))["identity"]
        return {**identity, **identity["settings"]}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise TrainingError(
            f"{str(file)!r} cannot be read ({shorten(reason)}); choose another `run_name`."
        ) from error


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Name, old and new value of what is not equal; `old` comes from a file and holds its settings itself."""
    new = json.loads(json.dumps({**new, **new["settings"]}))
    return [
        (key, old.get(key), new[key])
        for key in new
        if key != "settings" and old.get(key) != new[key]
    ]


def _check_identity(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    changed = _differences(old, new)
    if changed:
        key, before, now = changed[0]
        raise TrainingError(
            f"The run {folder.name!r} was trained with another `{key}` ({shorten(before, 40)} there, "
            f"{shorten(now, 40)} here); choose another `run_name`."
        )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
