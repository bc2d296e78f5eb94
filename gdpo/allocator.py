"""The C library's heap, kept from growing to twice of what is in use.

An activation that is freed leaves a hole, and glibc cannot give the same hole to an aligned block of the same
size (2.36 and older), since small tensors settle at its edges. Forward and backward passes on a CPU therefore
took 1.5 to 2 times their tensors' memory, and kept it afterwards. Blocks that are mapped one by one go back at
once, at the cost of page faults. Only a heap without large holes maps blocks: one that loading or sampling left
behind is used up first, so the whole of a training runs this way, and loading too.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

# Parameters from where on it pays. In a virtual machine the faults added 60 % to an update of 4 M parameters, whose
# memory matters little; their share falls with the width of the model.
_LARGE = 100 * 10**6
# What passes take of a plain heap, as a multiple of their tensors: a rough middle, 1.2 to 2.1 were measured, and
# more with checkpointing. It is the order of the allocations that decides.
_PLAIN_HEAP = 1.9
# Blocks from here on are mapped one by one: activations of few tokens too, not the many small tensors.
_MAPPED_FROM = 2**18
# What glibc arrives at by itself in a process that frees large blocks, and its own limits.
_USUAL_MAPPED_FROM, _USUAL_KEPT = 32 * 2**20, 64 * 2**20
# Names in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class _Users:
    """How many blocks of code want a lean heap at present."""

    def __init__(self) -> None:
        self._lock, self._count = threading.Lock(), 0

    def enter(self, library: ctypes.CDLL) -> None:
        with self._lock:
            self._count += 1
            if self._count == 1:
                library.mallopt(_M_TRIM_THRESHOLD, _USUAL_KEPT)
                library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)

    def leave(self, library: ctypes.CDLL) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                library.mallopt(_M_MMAP_THRESHOLD, _USUAL_MAPPED_FROM)


_users = _Users()


@contextmanager
def returning_freed_memory(device: str, parameters: int = _LARGE) -> Iterator[None]:
    """Give freed tensors of the block back to the system at once; does nothing but on a CPU with glibc.

    Blocks inside blocks, and in other threads, are allowed: the heap is lean until the last one ends.

    Args:
        device: Device of the model.
        parameters: Number of the model's parameters; nothing is done for a small one.
    """
    library = _glibc()
    if library is None or device != "cpu" or parameters < _LARGE or _is_chosen():
        yield
        return
    library.malloc_trim(0)
    _users.enter(library)
    try:
        yield
    finally:
        _users.leave(library)
        library.malloc_trim(0)


def heap_share(device: str, parameters: int) -> float:
    """Return what the passes of a model take of the heap, as a multiple of their tensors."""
    is_plain = device == "cpu" and _glibc() is not None and parameters < _LARGE
    return _PLAIN_HEAP if is_plain and not _is_chosen() else 1.0


def trim_heap() -> None:
    """Give the holes of the heap back to the system, where the C library can."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _is_chosen() -> bool:
    """Tell whether the process was started with a threshold of its owner's choice, which stays."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "MALLOC_MMAP_THRESHOLD_" in os.environ or "malloc.mmap_threshold" in tunables


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
