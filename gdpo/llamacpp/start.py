"""Starts a worker as a program: `start.py SCRIPT REQUEST.json RESPONSE.jsonl`, in an isolated Python.

An isolated Python (`-I`) finds no module in the working directory, beside the script, in the user's own folder or
on PYTHONPATH: nothing that a stranger could have put there. The packages that the parent has are named in the
request. Whatever a worker reads comes from strangers, too, so it never opens a connection.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.sendto"}


def _stay_offline(event: str, arguments: tuple) -> None:
    if event in _NETWORK:
        raise PermissionError(f"a worker opens no connections, and {event} was tried")


def main() -> None:
    """Run the script with its arguments."""
    script, request = sys.argv[1:3]
    packages = json.loads(Path(request).read_text(encoding="utf-8"))["packages"]
    sys.path.extend(path for path in packages if path not in sys.path)
    sys.addaudithook(_stay_offline)
    del sys.argv[0]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
