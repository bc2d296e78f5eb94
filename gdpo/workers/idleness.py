"""Whether a process still does anything."""

from __future__ import annotations

import time


class Idleness:
    """For how long a process has used no processor and given no result."""

    def __init__(self, pid: int) -> None:
        """Begin to watch the process with this id."""
        self._pid = pid
        self._seen: tuple[int, float] | None = None
        self._since = time.monotonic()

    def seconds(self, lines: int) -> float:
        """Seconds since `lines`, or the process's time on a processor, last grew."""
        import psutil

        try:
            times = psutil.Process(self._pid).cpu_times()
            used = times.user + times.system
        except psutil.Error:  # it has just ended
            return 0.0
        if self._seen != (lines, used):
            self._seen, self._since = (lines, used), time.monotonic()
        return time.monotonic() - self._since
