"""A decode step recorded once and replayed: a graphics card then does not wait for Python between its kernels.

Off unless the environment says GDPO_CUDA_GRAPHS=1, until it has been tried on a card. The form of the step is tested
on a CPU; the recording itself has not run, and one that goes wrong can leave the process's allocator unusable.
"""

from __future__ import annotations

import gc
import logging
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...out_of_memory import is_out_of_memory
from ...policies.precision import has_int8_layers

logger = logging.getLogger(__name__)

Step = Callable[[Tensor], Tensor]  # tokens to logits

# Runs of a step before it is recorded: a recording takes about as long as three runs, and rows may leave meanwhile.
_PLAIN_RUNS = 2
# Largest difference of the logits, as a share of their size: the same kernels, but a library may choose others.
_TOLERANCE = 1e-2

# Models whose step could not be recorded.
_refused: weakref.WeakSet[Any] = weakref.WeakSet()
# Whether this thread records.
_recording: ContextVar[bool] = ContextVar("recording", default=False)


def unless_recording(poll: Callable[[], None]) -> Callable[[], None]:
    """`poll`, but for the moment of a recording, which what it raises might break."""
    return lambda: None if _recording.get() else poll()


def recordable(model: Any) -> bool:
    """Tell whether a step of the model may be recorded: on a card of NVIDIA's, by kernels that do not wait for a result."""
    if os.environ.get("GDPO_CUDA_GRAPHS") != "1" or model.device.type != "cuda":
        return False
    # The driver's own allocator (cudaMallocAsync) cannot take back what a broken recording has allocated.
    if torch.version.hip or torch.cuda.get_allocator_backend() != "native" or model in _refused:
        return False
    # Which columns are computed in 16 bit depends on the numbers there.
    return not has_int8_layers(model)


def cuda_graph(step: Step, tokens: Tensor) -> Callable[[], Tensor]:
    """Return a recording of `step` on `tokens`: it reads them, and all else, where they lie now."""
    device, graph = tokens.device, torch.cuda.CUDAGraph()
    side = _stream(device.index)
    with torch.cuda.device(device), _no_collection():
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step(tokens)  # libraries make their workspaces on this stream before the recording
            torch.cuda.synchronize()
            # Other threads of the host may use the card meanwhile.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                logits = step(tokens)
            finally:
                graph.capture_end()
        torch.cuda.current_stream().wait_stream(side)
    logits.fill_(torch.nan)  # so that a recording of nothing shows

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay


class Recorder:
    """Runs a step of fixed shapes and places, from its third time on as a recording.

    One that fails, or computes something else than the step, is given up for this model, and told once.
    """

    def __init__(
        self, model: Any, record: Callable[[Step, Tensor], Callable[[], Tensor]] = cuda_graph
    ) -> None:
        self._model, self._record, self._enabled = model, record, True
        self.forget()

    def forget(self) -> None:
        """Shapes or places have changed."""
        self._replay: Callable[[], Tensor] | None = None
        self._tokens: Tensor | None = None
        self._runs = 0

    def run(self, step: Step, tokens: Tensor) -> Tensor:
        """Return what `step` computes; it must compute the same when it is run twice."""
        if self._replay is not None and self._tokens is not None:
            self._tokens.copy_(tokens)
            return self._replay()
        logits = step(tokens)
        self._runs += 1
        if self._enabled and self._runs == _PLAIN_RUNS:
            self._try(step, tokens, logits)
        return logits

    def _try(self, step: Step, tokens: Tensor, logits: Tensor) -> None:
        self._tokens, before = tokens.clone(), _recording.set(True)
        try:
            replay = self._record(step, self._tokens)
            gap = (replay() - logits).abs().max() / logits.abs().max()
        except RuntimeError as error:  # all that CUDA raises
            self._refuse(error.__context__ or error)
        else:
            if gap <= _TOLERANCE:
                self._replay = replay
            else:
                self._refuse(f"its logits differ by {float(gap):.2g} of their size")
        finally:
            _recording.reset(before)

    def _refuse(self, reason: object) -> None:
        self._enabled = False
        self.forget()
        if isinstance(reason, BaseException) and is_out_of_memory(reason):
            return  # another time there may be room
        _refused.add(self._model)
        logger.warning(
            "The decode step cannot be recorded as a CUDA graph (%s); sampling goes on without, which is slower. Should "
            "memory run short from now on, restart with GDPO_CUDA_GRAPHS=0.",
            " ".join(str(reason).split())[:200],
        )


@lru_cache
def _stream(device: int) -> Any:
    """Return a stream for recordings alone, one a device: each has workspaces of its own."""
    return torch.cuda.Stream(device)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector off: what is freed in a recording may break it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
