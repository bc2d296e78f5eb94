"""What the tests of killed and damaged runs share: trainings that may die, and what a run leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("crash_server.py")
TIMED = {"seconds", "tokens_per_second", "peak_memory_mb"}


class Server:
    """Trainings in processes that may die."""

    def __init__(self, model: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER), str(model)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def train(self, folder: Path, **order: Any) -> tuple[int, str]:
        """How a training ended: its exit code, negative for a signal, and its error."""
        self._process.stdin.write(json.dumps({"folder": str(folder), **order}) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        return found["code"], found["message"]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def result(folder: Path) -> dict[str, Any]:
    """All that a run leaves, without what depends on the clock."""
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    found: dict[str, Any] = {
        "history": [{k: v for k, v in record.items() if k not in TIMED} for record in records]
    }
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in {"history.jsonl", "state.json", ".lock"}:
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def check_equal(folder: Path, reference: Path) -> None:
    """The same files with the same content, and no other ones."""
    ours, theirs = result(folder), result(reference)
    assert ours.keys() == theirs.keys()
    different = [name for name in theirs if ours[name] != theirs[name]]
    assert different == []
