"""The running average of a training's policies, which is what a training by natural steps gives.

Each step moves the policy by what the noise of its few completions says, too. The steps go on from the newest policy,
and evaluations, checkpoints and the result take the average of the last ones, in which that noise cancels (Polyak and
Juditsky, 1992; exponential, as in arXiv 2406.16768 for language models).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Of the average, at each step: about the last ten steps count, and of a young training its last quarter ("polynomial
# decay averaging" of Shamir and Zhang, arXiv 1212.1824).
_KEPT, _QUARTER = 0.9, 4
_NAME = "average"


class Average:
    """Averages an optimiser's parameters, and keeps the average in the optimiser's state, so that checkpoints hold it."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Begin before the first step, at which the average is the policy itself."""
        self._optimizer = optimizer

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Take in the parameters after `step`, counted from 1."""
        kept = min(_KEPT, 1 - _QUARTER / (step + _QUARTER - 1))
        for parameter in self._parameters:
            state = self._optimizer.state[parameter]
            if _NAME in state:
                state[_NAME].lerp_(parameter, 1 - kept)
            else:
                state[_NAME] = parameter.detach().clone()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Let the parameters be the average inside the block; what they were is in the optimiser's state meanwhile."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the parameters and what is kept of them."""
        for parameter in self._parameters:
            state = self._optimizer.state.get(parameter, {})
            if _NAME in state:
                now = parameter.detach().clone()
                parameter.copy_(state[_NAME])
                state[_NAME] = now

    @property
    def _parameters(self) -> list[Tensor]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]
