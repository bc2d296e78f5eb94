"""What a training does when memory runs out: what takes less of it, once each, then a clear end."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from ..allocator import trim_heap
from ..errors import TrainingError
from ..optimizers import NATURAL
from ..out_of_memory import is_out_of_memory
from ..settings import TrainSettings

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """What the passes of a step may take.

    Attributes:
        settings: Settings of the training, of which `micro_batch` may have become smaller.
        spills: True if the completions' scores, where they are kept at all, are kept in main memory.
    """

    settings: TrainSettings
    spills: bool = False


class Retreat:
    """Runs the passes of each step, and in a way that takes less memory from a failed allocation on.

    Scores move from a card to main memory first, then micro-batches are halved once. Neither changes the mathematics,
    and the passes of a step begin with empty buffers, so they are simply run again.
    """

    def __init__(self, settings: TrainSettings, device: str) -> None:
        """Begin with the micro-batches of `settings`, and scores on the device."""
        self._limits, self._device = Limits(settings), device
        self._ways = list(_milder(self._limits, device))

    def run(
        self, passes: Callable[[Limits], Result], explain: Callable[[TrainSettings], str]
    ) -> Result:
        """Return what `passes` gives.

        Args:
            passes: Given the limits that have come into force.
            explain: Tells what these settings need, and what to change.

        Raises:
            TrainingError: Memory ran out again, and there was nothing left to try.
        """
        while isinstance(problem := self._attempt(passes), _Failed):
            if not self._ways:
                size = self._limits.settings.micro_batch
                raise TrainingError(
                    f"Memory ran out in the update with micro_batch {size} "
                    f"({problem.reason}); {explain(self._limits.settings)}"
                )
            self._limits, change = self._ways.pop(0)
            logger.warning(
                "Memory ran out in the update (%s); from here on %s.", problem.reason, change
            )
        return problem

    def _attempt(self, passes: Callable[[Limits], Result]) -> Result | _Failed:
        try:
            return passes(self._limits)
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


def _milder(limits: Limits, device: str) -> Iterator[tuple[Limits, str]]:
    """Yield limits that take less memory, each beyond the one before, and what has changed in words."""
    if limits.settings.optimizer == NATURAL and device != "cpu":
        limits = replace(limits, spills=True)
        yield limits, "the completions' scores are kept in main memory"
    size = limits.settings.micro_batch
    if size > 1:
        smaller = replace(limits.settings, micro_batch=size // 2)
        yield replace(limits, settings=smaller), f"micro_batch is {size // 2} instead of {size}"
