"""A worker that stays: it answers one request after the other, each under a limit of memory and time."""

from __future__ import annotations

import atexit
import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from ..scratch import scratch_folder
from .idleness import Idleness
from .process import kill, signal_name, start

_POLL_SECONDS = 0.05
_LEAVE_SECONDS = 5.0
# A worker that used no processor for so long does not come back.
_IDLE_SECONDS = 60.0
_SLACK_BYTES = 64 * 2**20


class RefusedError(Exception):
    """The worker ended, or was ended, over a request; the message says by what."""


class StandingWorker:
    """One process of a worker program, started when it is first asked and again when it has gone.

    The program reads a JSON line for each request from `lines`, carries it out under `limited`, and prints a JSON
    line; one with a true `last` says that it ends now. It ends itself when nobody has asked for a while.
    """

    def __init__(self, script: Path) -> None:
        """Name the program; it is not started yet."""
        self._script = script
        self._forget()

    def _forget(self) -> None:
        """Be as new. In a forked copy of a process, the worker belongs to the original."""
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._replies: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._holds = ExitStack()

    def ask(
        self,
        request: Mapping[str, object],
        *,
        memory: int,
        seconds: int,
        poll: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Return the worker's answer.

        Args:
            request: Plain JSON.
            memory: Bytes that the worker may take for it, beyond what it has.
            seconds: Time on a processor that it may take.
            poll: Function that is called while the worker works; if it raises, the worker is killed.

        Raises:
            RefusedError: The request took more than it may, or ended the worker.
            OSError: The worker cannot be started.
        """
        if self._owner != os.getpid():
            self._forget()
        line = json.dumps({**request, "memory": memory, "seconds": seconds}).encode() + b"\n"
        with self._lock:
            self._start()
            reply = self._exchange(line, memory, seconds, poll)
            if reply is None and self._has_left():
                self._start()
                reply = self._exchange(line, memory, seconds, poll)
            if reply is None:
                raise RefusedError(self._end())
            answer = json.loads(reply)
            if answer.get("last"):
                self._end()  # or the next request would meet a process that is about to end
        return answer

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._owner == os.getpid():
            with self._lock:
                self._end()

    def _start(self) -> None:
        """Start the process unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        folder = self._holds.enter_context(scratch_folder("gdpo-"))
        self._process = start(self._script, {}, folder, stdout=subprocess.PIPE)
        self._replies = queue.SimpleQueue()
        arguments = (self._process.stdout, self._replies)
        threading.Thread(target=_forward, args=arguments, daemon=True).start()
        atexit.register(self.stop)

    def _has_left(self) -> bool:
        """Tell whether the process ended itself, because nobody had asked for a while, as this request came."""
        try:
            return self._process is not None and self._process.wait(_LEAVE_SECONDS) == 0
        except subprocess.TimeoutExpired:
            return False

    def _exchange(
        self, line: bytes, memory: int, seconds: int, poll: Callable[[], None]
    ) -> bytes | None:
        """Send a line and return the next one; None if the process is at its end."""
        process = self._process
        assert process is not None and process.stdin is not None  # noqa: PT018  for the type checker
        watch = _Watch(process.pid, memory, seconds)
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except OSError:
            return None
        while True:
            try:
                return self._replies.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                pass
            try:
                poll()
                watch.look()
            except BaseException:  # the answer would come in the place of the next one's
                self._end()
                raise

    def _end(self) -> str:
        """End the process and tell how it ended."""
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process is None:
            return "it was not started"
        try:
            code = process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        kill(process)
        self._holds.close()
        if code is None or code >= 0:
            return f"it ended with code {code}"
        return f"it was ended by {signal_name(-code)}"


def _forward(source: IO[bytes], target: queue.SimpleQueue[bytes | None]) -> None:
    """Put each line of a pipe into a queue, and None at its end."""
    with source:
        for line in source:
            target.put(line)
    target.put(None)


class _Watch:
    """How much a process has taken since the watch began: not every system stops it by itself."""

    def __init__(self, pid: int, memory: int, seconds: int) -> None:
        self._pid, self._memory, self._seconds = pid, memory, seconds
        self._before = self._used()
        self._idleness = Idleness(pid)

    def _used(self) -> tuple[int, float] | None:
        """Return bytes in use and seconds on a processor; None of a process that has ended."""
        import psutil

        try:
            process = psutil.Process(self._pid)
            times = process.cpu_times()
            return process.memory_info().rss, times.user + times.system
        except psutil.Error:
            return None

    def look(self) -> None:
        """Raise RefusedError if it has taken too much, or does nothing."""
        now = self._used()
        if now is None or self._before is None:
            return
        if now[0] - self._before[0] > self._memory + _SLACK_BYTES:
            raise RefusedError(f"it took more than {self._memory // 2**20} MiB of memory")
        if now[1] - self._before[1] > self._seconds + 2:
            raise RefusedError(f"it took more than {self._seconds} s")
        if self._idleness.seconds(0) > _IDLE_SECONDS:
            raise RefusedError(f"it did nothing for {_IDLE_SECONDS:.0f} s")
