"""The C library's heap, kept from growing to twice of what is in use.

An activation that is freed leaves a hole, and glibc cannot give the same hole to an aligned block of the same
size (2.36 and older). Forward and backward passes on a CPU therefore took 1.5 to 1.9 times their tensors' memory,
and kept it afterwards. Blocks that are mapped one by one go back at once, at the cost of some page faults.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

# Blocks from here on are mapped one by one: activations, not the many small tensors.
_MAPPED_FROM = 2**20
# What glibc arrives at by itself in a process that frees large blocks, and its own limits.
_USUAL_MAPPED_FROM, _USUAL_KEPT = 32 * 2**20, 64 * 2**20
# Names in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@contextmanager
def lean_heap(device: str) -> Iterator[None]:
    """Give freed tensors of the block back to the system at once; does nothing but on a CPU with glibc."""
    library = _glibc()
    if library is None or device != "cpu":
        yield
        return
    trim_heap()  # what sampling and loading left
    library.mallopt(_M_TRIM_THRESHOLD, _USUAL_KEPT)
    library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)
    try:
        yield
    finally:
        library.mallopt(_M_MMAP_THRESHOLD, _USUAL_MAPPED_FROM)
        trim_heap()


def trim_heap() -> None:
    """Give the holes of the heap back to the system, where the C library can."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
