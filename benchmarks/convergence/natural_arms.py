"""The arms that take natural steps: with each method, and `gdpo` with one part of the step exchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gdpo.objective.director import Director
from gdpo.objective.objective import Objective
from gdpo.rollouts import Rollouts
from gdpo.runs.record import Figures
from gdpo.settings import TrainSettings
from gdpo.training.averaging import Average
from gdpo.training.gradient import Parts
from gdpo.training.stepping import NaturalSteps, PlainSteps, StepperMaker, make_stepper
from gdpo.update.natural import NaturalStep, natural_step, predicted_kl
from gdpo.update.natural_state import NaturalGradient
from gdpo.update.passes import Differentiated

from .arm import Arm

_NATURAL = (("optimizer", "natural"),)


class _OneDraw(Director):
    """No prompt is sampled again, and none waits."""

    def stuck(self, rewards: Tensor) -> Tensor:
        """Find nothing."""
        return torch.zeros(rewards.shape[1], dtype=torch.bool)


class _WithoutAverage(NaturalSteps):
    """The newest policy is the result."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._average = _Nothing(self.optimizer)


class _Nothing(Average):
    """Averages nothing."""

    def add(self, step: int) -> None:
        """Keep nothing."""


class _WithoutMemory(NaturalSteps):
    """Every step begins its regression anew."""

    def _make_optimizer(self, parameters: Sequence[Tensor]) -> NaturalGradient:
        return NaturalGradient(parameters, memory=0.0)


class _InPlainParameters(NaturalSteps):
    """The metric of the parameters is the identity."""

    def _make_optimizer(self, parameters: Sequence[Tensor]) -> NaturalGradient:
        return NaturalGradient(
            parameters, metric=lambda squares: [torch.ones_like(v) for v in squares]
        )


class _FullSteps(NaturalSteps):
    """Every step is as long as it may be, whatever is left to do."""

    def _length(self, changes: Tensor) -> float:
        kl = predicted_kl(changes)
        return (self._settings.step_size / kl) ** 0.5 if kl > 0 else 1.0


class _ByMatrix(NaturalGradient):
    """Regresses in each matrix by itself: the Fisher matrix is taken for block-diagonal."""

    def find(self, scores: Sequence[Tensor], wanted: Tensor) -> NaturalStep:
        """Return the direction of this step from those of the matrices, which share what is wanted."""
        found = []
        for parameter, each in zip(self._matrices, scores, strict=True):
            metric = self._metric([self._square(parameter, each)])
            found.append(natural_step([each], metric, None, wanted / len(scores)))
        return _together(found)


class _Isometric(NaturalGradient):
    """Divides each completion's score by its own length in the Fisher metric: ISOPO (arXiv 2512.23353)."""

    def find(self, scores: Sequence[Tensor], wanted: Tensor) -> NaturalStep:
        """Return sum_i c_i u_i / |u_i|_F / N, with |u_i|_F^2 = u_i' F u_i = (G G)_ii / N."""
        rows = torch.cat([each.flatten(1) for each in scores], 1).double()
        gram = rows @ rows.T
        lengths = (gram.square().sum(1) / len(gram)).sqrt().clamp(min=1e-30)
        shares = wanted / lengths / len(gram)
        direction = [torch.tensordot(shares.to(each), each, dims=1) for each in scores]
        return NaturalStep(direction, gram @ shares, gram)


class _MatrixByMatrix(NaturalSteps):
    def _make_optimizer(self, parameters: Sequence[Tensor]) -> NaturalGradient:
        return _ByMatrix(parameters, memory=0.0)


class _IsometricSteps(_FullSteps):
    def _make_optimizer(self, parameters: Sequence[Tensor]) -> NaturalGradient:
        return _Isometric(parameters, memory=0.0)


class _AveragedSteps(PlainSteps):
    """AdamW's steps; the average of its policies is the result."""

    def step(self, found: Differentiated, rollouts: Rollouts, step: int) -> Figures:
        """Step, and take the policy into the average."""
        figures = super().step(found, rollouts, step)
        Average(self.optimizer).add(step)
        return figures


def _averaged(
    model: Any, objective: Objective, settings: TrainSettings, poll: Callable[[], None]
) -> _AveragedSteps:
    return _AveragedSteps(model, settings)


def _together(found: Sequence[NaturalStep]) -> NaturalStep:
    direction = [step.direction[0] for step in found]
    changes = torch.stack([step.changes for step in found]).sum(0)
    return NaturalStep(direction, changes, torch.stack([step.gram for step in found]).sum(0))


def _natural(**changes: Any) -> Arm:
    return Arm(**changes, settings=_NATURAL)


def _one_draw(steps: StepperMaker = make_stepper, **changes: Any) -> Arm:
    return _natural(**changes, parts=Parts(_OneDraw, stepper=steps))


LEADING = "gdpo, natural"
ONE_DRAW = "gdpo, natural, one draw"
NATURAL: dict[str, Arm] = {
    LEADING: _natural(),
    ONE_DRAW: _one_draw(),
    "saturation_aware, natural": _natural(method="saturation_aware", weighting="fixed", floor=0.0),
}
# Each is `ONE_DRAW` with one part exchanged.
EXCHANGED: dict[str, Arm] = {
    "group_dpo, natural": _one_draw(method="group_dpo", weighting="fixed", floor=0.0),
    "gdpo, averaged": Arm(parts=Parts(stepper=_averaged)),
    "gdpo, natural, fixed weights": _one_draw(weighting="fixed", floor=0.0),
    "gdpo, natural, by deficit": _one_draw(weighting="by_deficit", floor=0.0),
    "gdpo, natural, no average": _one_draw(_WithoutAverage),
    "gdpo, natural, no running direction": _one_draw(_WithoutMemory),
    "gdpo, natural, plain parameters": _one_draw(_InPlainParameters),
    "gdpo, natural, matrix by matrix": _one_draw(_MatrixByMatrix),
    "gdpo, natural, full steps": _one_draw(_FullSteps),
    "isopo, one reward": _one_draw(_IsometricSteps, method="grpo", weighting="fixed", floor=0.0),
}
GATED = {"gdpo, natural, gated brevity": _one_draw(gate=True)}
