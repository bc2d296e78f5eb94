"""Runs a worker program under an audit hook: `audited_worker.py LOG SCRIPT REQUEST RESPONSE`.

Every import of a file, compilation, subprocess, socket and started program goes into LOG, one JSON line each, before
the worker gets the chance to do anything.
"""

from __future__ import annotations

import json
import os
import runpy
import sys

WATCHED = (
    "subprocess.",
    "socket.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "ctypes.dlopen",
)


def watch(log: str) -> None:
    """Write what is watched to `log` from now on."""
    stream = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def hook(event: str, arguments: tuple) -> None:
        if event == "compile":
            line = [event, str(arguments[1])]
        elif event == "import":
            line = [event, str(arguments[0]), str(arguments[1])]
        elif event.startswith(WATCHED):
            line = [event, *(repr(a) for a in arguments[:2])]
        else:
            return
        os.write(stream, (json.dumps(line) + "\n").encode())

    sys.addaudithook(hook)


if __name__ == "__main__":
    _, log, script, *sys.argv[1:] = sys.argv
    sys.argv[0] = script
    sys.path[0] = os.path.dirname(script)
    watch(log)
    runpy.run_path(script, run_name="__main__")
