"""What a training does when memory runs out: smaller micro-batches once, then a clear end."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch

from ..errors import TrainingError
from ..settings import TrainSettings
from .heap import lean_heap, trim_heap

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
# What allocators say that raise plain RuntimeErrors: torch's on CPUs, Linux's and Windows', and cuBLAS.
_WORDS = ("not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a card or in the machine's own memory."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


class Retreat:
    """Runs the passes of each step, with smaller micro-batches from the first failed allocation on.

    The size of a micro-batch does not change the mathematics, and the passes of a step begin with empty
    buffers, so they are simply run again.
    """

    def __init__(self, settings: TrainSettings, device: str) -> None:
        """Begin with the micro-batches of `settings`."""
        self._settings, self._device = settings, device
        self._retreated = False

    def run(
        self,
        passes: Callable[[TrainSettings], Result],
        explain: Callable[[TrainSettings], str],
    ) -> Result:
        """What `passes` gives.

        Args:
            passes: Given the settings, of which `micro_batch` may have become smaller.
            explain: Tells what these settings need, and what to change.

        Raises:
            TrainingError: Memory ran out again, or there was nothing left to halve.
        """
        problem = self._attempt(passes)
        if not isinstance(problem, _Failed):
            return problem
        size = self._settings.micro_batch
        if not self._retreated and size > 1:
            self._retreated = True
            self._settings = replace(self._settings, micro_batch=size // 2)
            logger.warning(
                "Memory ran out in the update (%s); from here on micro_batch is %d instead of %d.",
                problem.reason,
                size // 2,
                size,
            )
            problem = self._attempt(passes)
            if not isinstance(problem, _Failed):
                return problem
        raise TrainingError(
            f"Memory ran out in the update with micro_batch {self._settings.micro_batch} "
            f"({problem.reason}); {explain(self._settings)}"
        )

    def _attempt(self, passes: Callable[[TrainSettings], Result]) -> Result | _Failed:
        try:
            with lean_heap(self._device):
                return passes(self._settings)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:120] or type(error).__name__
        # The error is gone here, and with its traceback the tensors that it held.
        gc.collect()
        trim_heap()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return _Failed(reason)


class _Failed:
    """Why the passes could not be run."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
