"""Peak memory of a piece of work: of the card's allocator on CUDA, of the process on Linux."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Larger blocks go back to the system when they are freed, as long as the child is started with this: only then
# does a peak belong to the work after `reset_peak`.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
# The kernel's command for "forget the peak of the resident set".
_FORGET = "5"


def measurable(device: str) -> bool:
    """Whether peaks can be told apart here."""
    return device != "cpu" or (sys.platform == "linux" and _CLEAR.exists())


def reset_peak(device: str) -> None:
    """Give back what is free and forget the peak so far."""
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    forget_peak(device)


def forget_peak(device: str) -> None:
    """Forget the peak so far, and leave what is free as it is."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        _CLEAR.write_text(_FORGET, encoding="ascii")


def peak_mb(device: str) -> tuple[float, float]:
    """Peak since `reset_peak`: (allocated, reserved) on CUDA, twice the resident set on a CPU."""
    if device != "cpu":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**20, torch.cuda.max_memory_reserved() / 2**20
    line = next(
        x for x in _STATUS.read_text(encoding="ascii").splitlines() if x.startswith("VmHWM")
    )
    peak = int(line.split()[1]) / 1024
    return peak, peak


def resident_mb(device: str) -> float:
    """What is resident now: the baseline of an imported, idle process; 0 on CUDA, whose counters start at 0."""
    if device != "cpu":
        return 0.0
    line = next(
        x for x in _STATUS.read_text(encoding="ascii").splitlines() if x.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024
