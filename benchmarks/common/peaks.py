"""Measures the peak memory of a piece of work: of the card's allocator on CUDA, of the process on Linux."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import torch

# A child that is started with these gives larger blocks back to the system when they are freed. Only then does a
# peak belong to the work after `reset_peak`; giving memory back costs time, so times are taken without them.
EXACT_HEAP = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# This is the kernel's command for "forget the peak of the resident set".
_FORGET = "5"


def measurable(device: str) -> bool:
    """Tell whether peaks can be told apart on this machine."""
    return device != "cpu" or (sys.platform == "linux" and _CLEAR.exists())


def reset_peak(device: str) -> None:
    """Give free memory back and forget the peak so far."""
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    forget_peak(device)


def forget_peak(device: str) -> None:
    """Forget the peak so far, and leave free memory as it is."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        _CLEAR.write_text(_FORGET, encoding="ascii")


def peak_mb(device: str) -> tuple[float, float]:
    """Return the peak since `reset_peak`, in MB: (allocated, reserved) on CUDA, twice the resident set on a CPU."""
    if device != "cpu":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**20, torch.cuda.max_memory_reserved() / 2**20
    peak = _status_mb("VmHWM")
    return peak, peak


def resident_mb(device: str) -> float:
    """Resident set now, in MB: the baseline of an imported, idle process; 0 on CUDA, whose counters start at 0."""
    return 0.0 if device != "cpu" else _status_mb("VmRSS")


def _status_mb(field: str) -> float:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024
