"""Runs a worker script in a process of its own: what llama.cpp does on an error is to abort.

The request is a JSON file, the response a file of JSON lines that grows while the worker works, so that
progress can be shown and a cancelled worker simply be killed. The scripts run by path, because under
ComfyUI the pack has no importable name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage

from ..errors import ExportError, GDPOError, shorten
from ..scratch import scratch_folder
from .idleness import Idleness
from .surroundings import environment, package_folders

START = Path(__file__).with_name("start.py")
# A worker that used no processor and gave no result for so long does not come back.
IDLE_SECONDS = 900.0

_FULL_BYTES = 2**20
_POLL_SECONDS = 0.1
_KILL_SECONDS = 5.0
# Isolated from the user's own start-up files and module paths; unbuffered, in UTF-8.
_PYTHON = ("-I", "-u", "-X", "utf8")


def run_worker(
    script: Path,
    request: Mapping[str, object],
    *,
    poll: Callable[[], None] = lambda: None,
    on_lines: Callable[[int], None] = lambda lines: None,
    error: type[GDPOError] = ExportError,
    idle_seconds: float = IDLE_SECONDS,
) -> list[dict]:
    """Run `script` with `request` and return the lines of its response.

    The worker ends when this process does, even if that is killed.

    Args:
        script: The worker program.
        request: Plain JSON, with whole paths: the worker's own folder is an empty one.
        poll: Called while the worker runs; if it raises, the worker is killed.
        on_lines: Called with the number of response lines whenever more have come; may raise too.
        error: Raised when the worker fails, with the reason the worker or llama.cpp gave.
        idle_seconds: A worker that does nothing for so long is killed, which is an error.

    Raises:
        GDPOError: Of the class `error`.
    """
    task = str(request.get("task", "The worker"))
    with _scratch(task, error) as folder:
        response = folder / "response.jsonl"
        response.touch()
        process = start(script, request, folder)
        try:
            code = _wait(process, response, poll, on_lines, idle_seconds)
        except _IdleError as idle:
            raise error(
                f"{task} failed: it did nothing for {idle_seconds:.0f} s; try again, and restart the machine or its "
                "driver if it happens again."
            ) from idle
        finally:
            kill(process)
        lines = _read_lines(response)
        if code != 0 or not lines or "error" in lines[-1]:
            text = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
            reason = _reason(code, lines, text)
            raise error(f"{task} failed: {reason}{_full(folder)}.")
        return lines


@contextmanager
def _scratch(task: str, error: type[GDPOError]) -> Iterator[Path]:
    """A folder for one worker; what the disk raises becomes `error`."""
    try:
        with scratch_folder("gdpo-") as folder:
            yield folder
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise error(
            f"{task} failed: the folder for temporary files cannot be written ({shorten(reason, 120)}); free space in "
            "it, or set TMPDIR to another folder."
        ) from problem


def _full(folder: Path) -> str:
    """A hint where the temporary folder is full: a worker then fails in many ways, often without a word."""
    if disk_usage(folder).free >= _FULL_BYTES:
        return ""
    return (
        f"; the folder for temporary files {tempfile.gettempdir()!r} is full: free space in it, or set TMPDIR to "
        "another folder"
    )


def start(
    script: Path, request: Mapping[str, object], folder: Path, *, stdout: int | None = None
) -> subprocess.Popen:
    """Start a worker in an empty folder, which knows of its parent the packages and how to compute.

    Paths of strangers are relative to nothing there, and no secret of the parent's is in its reach.

    Args:
        script: The worker program; it gets the paths of its request and of its response.
        request: Plain JSON.
        folder: An empty folder, of the worker's own. What it writes as errors is in `log.txt`.
        stdout: What `subprocess` takes for its output; None: into `log.txt`, too.
    """
    whole = {**request, "packages": package_folders()}
    (folder / "request.json").write_text(json.dumps(whole), encoding="utf-8")
    home, empty = folder / "home", folder / "empty"
    home.mkdir()
    empty.mkdir()
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [
                *(sys.executable, *_PYTHON, str(START), str(script.absolute())),
                *(str(folder / "request.json"), str(folder / "response.jsonl")),
            ],
            stdin=subprocess.PIPE,  # it ends when this process does
            stdout=log if stdout is None else stdout,
            stderr=log,
            cwd=empty,
            env=environment(os.environ, home),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows would open one
        )


class _IdleError(Exception):
    """The worker does nothing any more."""


def _wait(
    process: subprocess.Popen,
    response: Path,
    poll: Callable[[], None],
    on_lines: Callable[[int], None],
    idle_seconds: float,
) -> int:
    known, idleness = 0, Idleness(process.pid)
    while True:
        try:
            code = process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        poll()
        count = response.read_bytes().count(b"\n")
        if count > known:
            known = count
            on_lines(count)
        if code is not None:
            return code
        if idleness.seconds(count) > idle_seconds:
            raise _IdleError


def kill(process: subprocess.Popen) -> None:
    """End a worker, whatever it is doing."""
    if process.poll() is None:
        process.kill()
        process.wait(_KILL_SECONDS)
    if process.stdin:
        process.stdin.close()


def _read_lines(response: Path) -> list[dict]:
    """Whole lines only: a killed or crashed worker may have left half of one."""
    text = response.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1] if line]


def _reason(code: int, lines: list[dict], log: str) -> str:
    if lines and "error" in lines[-1]:
        return str(lines[-1]["error"]).rstrip(".")
    written = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in written if "GGML_ASSERT" in line or "Error" in line]
    last = (telling or written or ["it left no message"])[-1][:300].rstrip(".")
    if code < 0:
        return f"it was ended by {signal_name(-code)} ({last})"
    return f"it ended with code {code} ({last})"


def signal_name(number: int) -> str:
    """Return the name of a signal, such as `SIGKILL`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
