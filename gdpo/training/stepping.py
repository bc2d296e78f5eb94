"""How the parameters move: by an optimiser along the combined gradient, or by a natural step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import TrainingError
from ..objective.objective import Objective
from ..optimizers import NATURAL, make_optimizer
from ..rollouts import Rollouts
from ..runs.record import Figures
from ..settings import TrainSettings
from ..update.natural import NaturalStep, predicted_kl
from ..update.natural_state import NaturalGradient
from ..update.passes import Differentiated, divergence
from ..update.reward_gradients import RewardGradients
from ..update.signal import signal_shares
from .averaging import Average
from .schedule import learning_rate

# A step whose measured divergence is above this multiple of the wish is shortened, so often at most.
_TOO_FAR, _SHORTENINGS = 3.0, 3


class Stepper(Protocol):
    """Moves the parameters of one run, step by step."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What holds all that the next step depends on; checkpoints keep it."""
        ...

    def step(self, found: Differentiated, rollouts: Rollouts, step: int) -> Figures:
        """Move along what one backward pass gave, and return what the record says of it.

        Raises:
            TrainingError: The gradient is not finite.
        """
        ...


# Model, objective, settings and `poll`, which may raise to stop, to the stepper of a run.
StepperMaker = Callable[[Any, Objective, TrainSettings, Callable[[], None]], Stepper]


def make_stepper(
    model: Any, objective: Objective, settings: TrainSettings, poll: Callable[[], None]
) -> Stepper:
    """Return the stepper of `settings.optimizer`."""
    if settings.optimizer == NATURAL:
        return NaturalSteps(model, objective, settings, poll)
    return PlainSteps(model, settings)


class PlainSteps:
    """Steps of an optimiser along the combined gradient."""

    def __init__(self, model: Any, settings: TrainSettings) -> None:
        """Make the optimiser."""
        self._settings = settings
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        rate = settings.learning_rate
        self.optimizer = make_optimizer(settings.optimizer, self._parameters, rate)

    def step(self, found: Differentiated, rollouts: Rollouts, step: int) -> Figures:
        """Climb along the combined gradient; the record has its norm before clipping."""
        matrices = zip(found.gradients.parameters, found.gradients.combined, strict=True)
        for parameter, gradient in matrices:
            parameter.grad = gradient.neg_().to(parameter.dtype)  # optimisers descend
        limit = self._settings.max_grad_norm
        found_norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, limit))
        norm = finite(found_norm, step, self._settings)
        rate = learning_rate(self._settings.learning_rate, step, self._settings.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"grad_norm": norm, "learning_rate": rate}


class NaturalSteps:
    """Natural steps of a limited length in nats; see `update.natural`."""

    def __init__(
        self,
        model: Any,
        objective: Objective,
        settings: TrainSettings,
        poll: Callable[[], None],
    ) -> None:
        """Begin without a direction."""
        self._model, self._names = model, objective.names
        self._settings, self._poll = settings, poll
        self.optimizer = self._make_optimizer([p for p in model.parameters() if p.requires_grad])
        self._average = Average(self.optimizer)

    def step(self, found: Differentiated, rollouts: Rollouts, step: int) -> Figures:
        """Take the natural step towards what the combined advantages ask for.

        The record has its predicted and its measured divergence, and each reward's share of signal.
        """
        gradients = found.gradients
        norm = finite(norm_of(gradients.combined), step, self._settings)
        wanted, *advantages = gradients.coefficients.double().cpu() * len(rollouts.lengths)
        way = self.optimizer.find(likelihood_scores(gradients, rollouts), wanted)
        share = self._length(way.changes) * learning_rate(1.0, step, self._settings.warmup_steps)
        self.optimizer.move(way.direction, share)
        measure = partial(self._measure, rollouts, found.logprobs)
        measured, shortened = self._held_back(way, share, measure)
        self._average.add(step)
        return {
            "grad_norm": norm,
            "step_kl": predicted_kl(share * way.changes),
            "step_kl_measured": measured,
            "step_shortened": shortened,
            "signals": self._signals(way.gram, torch.stack(advantages)),
        }

    def _make_optimizer(self, parameters: Sequence[Tensor]) -> NaturalGradient:
        return NaturalGradient(parameters)

    def _length(self, changes: Tensor) -> float:
        """Return the share of a step with these changes of log-likelihood that is short enough, at most 1."""
        kl = predicted_kl(changes)
        return min(1.0, (self._settings.step_size / kl) ** 0.5) if kl > 0 else 1.0

    def _held_back(
        self, way: NaturalStep, share: float, measure: Callable[[], float]
    ) -> tuple[float, bool]:
        """Shorten the step that was taken while it went much further than it may; return how far, and whether it did."""
        wish, shortened, measured = self._settings.step_size, False, measure()
        for _ in range(_SHORTENINGS):
            if measured <= _TOO_FAR * wish:
                break
            less = share * (wish / measured) ** 0.5 if measured < float("inf") else 0.0
            self.optimizer.move(way.direction, less - share)
            share, shortened, measured = less, True, measure()
        return measured, shortened

    def _measure(self, rollouts: Rollouts, before: Tensor) -> float:
        """Return the divergence that the step has brought, from one completion of each prompt."""
        settings = self._settings
        return divergence(self._model, rollouts, before, settings, settings.group_size, self._poll)

    def _signals(self, gram: Tensor, advantages: Tensor) -> dict[str, float | None]:
        shares = signal_shares(gram, advantages, self._settings.group_size)
        return dict(zip(self._names, shares.tolist(), strict=True))


def likelihood_scores(gradients: RewardGradients, rollouts: Rollouts) -> list[Tensor]:
    """Return u_i = grad log pi(y_i | x_i) of all completions, `(N, out, in)` for each matrix, in place of the s_i."""
    scale = float(rollouts.lengths.sum()) / len(rollouts.lengths)
    return [scores.mul_(scale) for scores in gradients.scores]


def norm_of(gradients: Sequence[Tensor]) -> float:
    """Return the norm of a gradient that is given matrix by matrix."""
    return float(torch.stack([g.double().square().sum() for g in gradients]).sum().sqrt())


def finite(norm: float, step: int, settings: TrainSettings) -> float:
    """Return the norm of a gradient.

    Raises:
        TrainingError: It is not finite.
    """
    if norm != norm or norm == float("inf"):
        size = "step_size" if settings.optimizer == NATURAL else "learning_rate"
        raise TrainingError(
            f"The gradient of step {step} is not finite ({norm}); lower `{size}` or use bf16 or fp32."
        )
    return norm
