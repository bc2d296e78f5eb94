"""Recognises a failed allocation in the words of each library that allocates."""

from __future__ import annotations

import torch

# What allocators say that raise plain RuntimeErrors: torch's on CPUs, Linux's and Windows', and cuBLAS.
_WORDS = ("not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation failed, on a card or in the machine's own memory."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
