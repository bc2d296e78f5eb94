"""`state.json` of a checkpoint: what belongs together, and the sums by which damage shows.

A bit that flips on a disk makes other weights of a file that can still be read. The state therefore holds the SHA-256
of the files beside it, of the records up to it, and of itself.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, TypedDict

from ..errors import TrainingError
from ..plain_files import read_text
from .history import COMPLETIONS_FILE, HISTORY_FILE
from .journal import Mark, digest_prefix
from .shape import MisfitError, Number, checker

STATE_FILE = "state.json"
FORMAT = 2  # 1 is what had no `format`, and no sums


class Records(TypedDict):
    """What was on the disk of the run's two files of records when the checkpoint was made.

    Attributes:
        history: Mark of `history.jsonl`.
        completions: Mark of `completions.jsonl`.
    """

    history: Mark
    completions: Mark


class State(TypedDict):
    """What every `state.json` holds.

    Attributes:
        step: Number of finished steps.
        optimizer: The optimiser's numbers by the path to them, e.g. "0.step".
        director: What the next step's weights depend on.
    """

    step: int
    optimizer: dict[str, Number]
    director: dict[str, Any]


class SealedState(State):
    """What `state.json` holds since format 2.

    Attributes:
        format: `FORMAT`.
        files: SHA-256 of each file of the checkpoint by its name.
        records: Marks of the run's records.
        sha256: SHA-256 of everything else in the state.
    """

    format: int
    files: dict[str, str]
    records: Records
    sha256: str


_state_from_json = checker(State)
_sealed_from_json = checker(SealedState)


def seal(state: dict[str, Any], folder: Path, records: Records) -> str:
    """The text of a checkpoint's `state.json`.

    Args:
        state: As `State`.
        folder: Of the checkpoint; every other file of it is there already.
        records: Marks of the run's records.
    """
    files = {file.name: _sum(file) for file in sorted(folder.iterdir()) if file.name != STATE_FILE}
    return _signed({**state, "format": FORMAT, "files": files, "records": records})


def sealed_again(text: str, records: Records) -> str:
    """The same `state.json` with other marks."""
    content = json.loads(text)
    del content["sha256"]
    return _signed({**content, "records": records})


def unseal(folder: Path) -> tuple[State, Records | None]:
    """The state of the checkpoint in `folder`, once all sums are right, and the marks; None before format 2.

    Raises:
        MisfitError: Something is damaged.
        TrainingError: A newer version wrote the checkpoint.
        OSError, ValueError, RecursionError: A file is absent or no JSON.
    """
    content = json.loads(read_text(folder / STATE_FILE))
    if isinstance(content, dict) and content.keys() == State.__annotations__.keys():
        return _state_from_json(content), None
    if not isinstance(content, dict) or content.get("sha256") != _sum_of(content):
        raise MisfitError(f"a {STATE_FILE} that fits its own sum", content)
    version = content.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise TrainingError(
            f"The checkpoint {str(folder)!r} was written by a newer version of this pack (format {version}, known up "
            f"to {FORMAT}); update the pack, or train under another `run_name`."
        )
    sealed = _sealed_from_json(content)
    for name, expected in sealed["files"].items():
        if Path(name).name != name or _sum(folder / name) != expected:
            raise MisfitError("of the sum in its state", name, ["files"])
    state: State = _state_from_json(sealed)
    return state, sealed["records"]


def record_files(folder: Path, records: Records) -> list[tuple[Path, Mark]]:
    """The files of records of the run in `folder`, each with its mark."""
    return [
        (folder / HISTORY_FILE, records["history"]),
        (folder / COMPLETIONS_FILE, records["completions"]),
    ]


def _signed(content: dict[str, Any]) -> str:
    return json.dumps({**content, "sha256": _sum_of(content)})


def _sum_of(content: dict[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _sum(file: Path) -> str:
    if not file.is_file():
        return "absent"
    return digest_prefix(file)[0].hexdigest()
