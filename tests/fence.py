"""A fence around the folders that a stranger's input may reach, and what its attacks share.

An audit hook sees every file that is opened and every connection that is made meanwhile, so an attack that reads
or writes something outside the allowed folders fails here even if it is refused afterwards.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from loaded_pack import PACK, submodule

host = submodule("nodes.comfy.host")
errors = submodule("gdpo.errors")

NODES = PACK.NODE_CLASS_MAPPINGS
STARTER = "starter (bundled)"
SECRET = "the-secret-of-this-machine"
TINY = {"steps": 1, "prompts_per_step": 1, "group_size": 2, "max_new_tokens": 4, "lora_rank": 2}

_watched: dict[str, object] = {"outside": None, "seen": []}
_PATHS = {"open": 1, "os.listdir": 1, "os.scandir": 1, "os.mkdir": 1, "os.remove": 1, "os.rmdir": 1}
_PATHS |= {"os.rename": 2, "os.link": 2, "os.symlink": 2, "os.truncate": 1, "os.chmod": 1}


def _watch(event: str, arguments: tuple) -> None:
    outside = _watched["outside"]
    if outside is None:
        return
    if event in {"socket.connect", "socket.getaddrinfo", "os.system", "os.exec"}:
        _watched["seen"].append(f"{event} {arguments[:2]}")
    for given in arguments[: _PATHS.get(event, 0)]:
        path = os.fsdecode(given) if isinstance(given, (str, bytes, os.PathLike)) else ""
        if os.path.realpath(path).startswith(outside):
            _watched["seen"].append(f"{event} {path}")


sys.addaudithook(_watch)


@contextmanager
def watched(outside: Path) -> Iterator[list[str]]:
    """Collects what touches the folder inside the block, and what is sent."""
    seen: list[str] = []
    _watched.update(seen=seen, outside=os.path.realpath(outside))
    try:
        yield seen
    finally:
        _watched["outside"] = None


def forget() -> None:
    """Take what was seen so far for the test's own doing."""
    _watched["seen"].clear()


@dataclass(frozen=True)
class Fence:
    """The allowed folders, and one outside with secrets in it."""

    folders: object
    outside: Path

    def snapshot(self) -> dict[str, bytes | None]:
        """Everything that is outside, and the names of the outputs."""
        root = self.outside.parent
        return {
            str(path): path.read_bytes() if path.is_file() else None
            for path in sorted(self.outside.rglob("*"))
        } | {str(path): None for path in root.iterdir()}


def refused(work: Callable[[], object], message: str, kind: type = errors.GDPOError) -> str:
    """The one line with which `work` is refused."""
    with pytest.raises(kind) as caught:
        work()
    text = str(caught.value)
    assert re.search(message, text), text
    assert len(text.splitlines()) == 1, text
    assert len(text) < 1500, len(text)
    assert SECRET not in text
    return text


def call(node_id, **inputs):
    """Run one node with its defaults, as the host would: under inference mode."""
    node_class = NODES[node_id]
    with torch.inference_mode():
        return getattr(node_class(), node_class.FUNCTION)(**inputs)
