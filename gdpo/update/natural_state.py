"""What a natural step remembers from one step to the next, as an optimiser, so that checkpoints hold it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .natural import MEMORY, NaturalStep, Scores, natural_step, parameter_metric

# Squared scores are averaged over about ten steps, as Adam's are over a hundred smaller ones.
_SQUARES_DECAY = 0.9

Metric = Callable[[Sequence[Tensor]], list[Tensor]]


class NaturalGradient(torch.optim.Optimizer):
    """Keeps the running squares of the scores, "squares", and the running direction, "direction", of each matrix."""

    def __init__(
        self,
        parameters: Sequence[Tensor],
        memory: float = MEMORY,
        metric: Metric = parameter_metric,
    ) -> None:
        """Begin without any.

        Args:
            parameters: The adapter's matrices.
            memory: mu, the share of the direction before that is kept; 0: none, and nothing is stored for it.
            metric: Makes D from the running squares.
        """
        super().__init__(parameters, {})
        self._memory, self._metric = memory, metric

    def find(self, scores: Scores, wanted: Tensor) -> NaturalStep:
        """Return the direction of this step, and remember what the next one needs; arguments as for `natural_step`."""
        squares = [self._square(p, each) for p, each in zip(self._matrices, scores, strict=True)]
        before = [self.state[p].get("direction") for p in self._matrices] if self._memory else []
        known = None if not before or before[0] is None else before
        found = natural_step(scores, self._metric(squares), known, wanted, self._memory)
        if self._memory:
            for parameter, direction in zip(self._matrices, found.direction, strict=True):
                self.state[parameter]["direction"] = direction
        return found

    @torch.no_grad()
    def move(self, direction: Sequence[Tensor], share: float) -> None:
        """Add `share` of a direction to the matrices."""
        for parameter, way in zip(self._matrices, direction, strict=True):
            parameter.add_(way.to(parameter.dtype), alpha=share)

    @property
    def _matrices(self) -> list[Tensor]:
        return self.param_groups[0]["params"]

    def _square(self, parameter: Tensor, scores: Tensor) -> Tensor:
        """Return the running mean of a matrix's squared scores, the newest among them."""
        kind = torch.promote_types(parameter.dtype, torch.float32)
        now = scores.to(parameter.device, kind).square().mean(0)
        known = self.state[parameter].get("squares")
        found = now if known is None else known.lerp_(now, 1 - _SQUARES_DECAY)
        self.state[parameter]["squares"] = found
        return found
