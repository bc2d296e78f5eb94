"""What a training does when memory runs out: smaller micro-batches once, then a clear end."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch

from ..allocator import trim_heap
from ..errors import TrainingError
from ..out_of_memory import is_out_of_memory
from ..settings import TrainSettings

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


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
        """Return what `passes` gives.

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
            return passes(self._settings)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:120] or type(error).__name__
        # The error is gone here, and with its traceback the tensors that it held.
        gc.collect()
        trim_heap()
        if self._device != "cpu":
            torch.cuda.empty_cache()
        return _Failed(reason)


class _Failed:
    """Why the passes could not be run."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
