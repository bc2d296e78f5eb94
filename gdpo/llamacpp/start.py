"""Starts a worker as a program: `start.py SCRIPT REQUEST.json RESPONSE.jsonl`, in an isolated Python.

An isolated Python (`-I`) finds no module in the working directory, beside the script, in the user's own folder or
on PYTHONPATH: nothing that a stranger could have put there. The packages that the parent has are named in the
request. Whatever a worker reads comes from strangers, too, so it never opens a connection.

The parent holds the other end of this program's standard input. When that ends, the parent is gone, killed perhaps,
and nobody waits for the result.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
from pathlib import Path

_ORPHANED = 3  # exit code
_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.sendto"}


def _stay_offline(event: str, arguments: tuple) -> None:
    if event in _NETWORK:
        raise PermissionError(f"a worker opens no connections, and {event} was tried")


def _end_with_parent() -> None:
    """End this process as soon as its standard input ends, whatever it is doing."""

    def watch() -> None:
        try:
            while os.read(0, 4096):
                pass
        finally:
            os._exit(_ORPHANED)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Run the script with its arguments."""
    _end_with_parent()
    script, request = sys.argv[1:3]
    packages = json.loads(Path(request).read_text(encoding="utf-8"))["packages"]
    sys.path.extend(path for path in packages if path not in sys.path)
    sys.addaudithook(_stay_offline)
    del sys.argv[0]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
