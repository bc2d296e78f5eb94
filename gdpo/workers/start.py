"""Starts a worker as a program: `start.py SCRIPT REQUEST.json RESPONSE.jsonl`, in an isolated Python.

An isolated Python (`-I`) finds no module in the working directory, in the user's own folder or
on PYTHONPATH: nothing that a stranger could have put there. The packages that the parent has are named in the
request. Whatever a worker reads comes from strangers, too, so it never opens a connection.

The parent holds the other end of this program's standard input, and may send lines. When it ends, the parent is
gone, killed perhaps, and nobody waits for the result.

A worker's script may import, by relative names, what lies beside it and needs nothing else of the pack. It finds two
names of this program among its own: `lines`, a queue of what the parent sends, and `limited`.
"""

from __future__ import annotations

import json
import os
import queue
import runpy
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ORPHANED = 3  # exit code
_PACKAGE = "gdpo_worker"
_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.sendto"}

lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()


@contextmanager
def limited(memory: int, seconds: int) -> Iterator[None]:
    """Give the block so much memory and processor; one that wants more fails, or ends this process.

    Systems differ in what they count; the parent watches, too. (Windows counts nothing.)

    Args:
        memory: Bytes beyond what the process has asked for so far.
        seconds: Time on a processor.
    """
    try:
        import resource
    except ImportError:
        yield
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted = {resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime) + 1 + seconds}
    taken = _taken()
    if taken is not None:
        wanted[resource.RLIMIT_DATA] = taken + memory
    before = {kind: resource.getrlimit(kind) for kind in wanted}
    try:
        for kind, most in wanted.items():
            hard = before[kind][1]
            allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (allowed, hard))
        yield
    finally:
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)


def _taken() -> int | None:
    """Return bytes of data that this process has asked for, or None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return 1024 * int(status.split("VmData:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return None


def _stay_offline(event: str, arguments: tuple) -> None:
    if event in _NETWORK:
        raise PermissionError(f"a worker opens no connections, and {event} was tried")


def _listen() -> None:
    """Keep the parent's lines; end this process as soon as they end, whatever it is doing."""

    def read() -> None:
        parts: list[bytes] = []  # of the line that has not ended yet
        try:
            # Not through `sys.stdin`, whose lock this thread would hold while the interpreter shuts down.
            while data := os.read(0, 2**20):
                *ends, rest = data.split(b"\n")
                for end in ends:
                    lines.put(b"".join([*parts, end]))
                    parts = []
                parts.append(rest)
        finally:
            os._exit(_ORPHANED)

    threading.Thread(target=read, daemon=True).start()


def main() -> None:
    """Run the script with its arguments."""
    _listen()
    script, request = sys.argv[1:3]
    packages = json.loads(Path(request).read_text(encoding="utf-8"))["packages"]
    sys.path.extend(path for path in packages if path not in sys.path)
    sys.addaudithook(_stay_offline)
    del sys.argv[0]
    beside = types.ModuleType(_PACKAGE)
    beside.__path__ = [str(Path(script).parent)]
    sys.modules[_PACKAGE] = beside
    given = {"lines": lines, "limited": limited}
    runpy.run_module(f"{_PACKAGE}.{Path(script).stem}", given, "__main__")


if __name__ == "__main__":
    main()
