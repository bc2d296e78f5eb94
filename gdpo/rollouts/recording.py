"""A decode step recorded once and replayed: a graphics card then does not wait for Python between its kernels."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Step = Callable[[Tensor], Tensor]  # tokens to logits

# Runs of a step before it is recorded: a recording takes about as long as three runs, and rows may leave meanwhile.
_PLAIN_RUNS = 2
# Largest difference of the logits, as a share of their size: the same kernels, but a library may choose others.
_TOLERANCE = 1e-2

# Models whose step could not be recorded.
_refused: weakref.WeakSet[Any] = weakref.WeakSet()


def cuda_graph(step: Step, tokens: Tensor) -> Callable[[], Tensor]:
    """A recording of `step` on `tokens`: it reads them, and all else, where they lie now."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = step(tokens)

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay


def recordable(model: Any) -> bool:
    """Whether a step of the model may be recorded: on a CUDA card, by kernels that do not wait for a result."""
    if model.device.type != "cuda" or model in _refused:
        return False
    # Which columns are computed in 16 bit depends on the numbers there.
    return not any(type(part).__name__ == "Linear8bitLt" for part in model.modules())


class Recorder:
    """Runs a step of fixed shapes and places, from its third time on as a recording.

    One that fails, or computes something else than the step, is given up for this model, and told once.
    """

    def __init__(
        self, model: Any, record: Callable[[Step, Tensor], Callable[[], Tensor]] = cuda_graph
    ) -> None:
        self._model, self._record = model, record
        self.forget()

    def forget(self) -> None:
        """Shapes or places have changed."""
        self._replay: Callable[[], Tensor] | None = None
        self._tokens: Tensor | None = None
        self._runs = 0

    def run(self, step: Step, tokens: Tensor) -> Tensor:
        """What `step` computes; it must compute the same when it is run twice."""
        if self._replay is not None:
            self._tokens.copy_(tokens)
            return self._replay()
        logits = step(tokens)
        self._runs += 1
        if self._runs == _PLAIN_RUNS and self._model not in _refused:
            self._try(step, tokens, logits)
        return logits

    def _try(self, step: Step, tokens: Tensor, logits: Tensor) -> None:
        self._tokens = tokens.clone()
        try:
            replay = self._record(step, self._tokens)
            gap = (replay() - logits).abs().max() / logits.abs().max()
        except RuntimeError as error:  # all that CUDA raises, lacking memory too
            self._refuse(" ".join(str(error).split())[:200])
        else:
            if gap <= _TOLERANCE:
                self._replay = replay
            else:
                self._refuse(f"the recording's logits differ by {float(gap):.2g} of their size")

    def _refuse(self, reason: str) -> None:
        _refused.add(self._model)
        self.forget()
        logger.warning(
            "The decode step is not recorded as a CUDA graph, so sampling is slower: %s", reason
        )
