"""Makes a whole natural update on a batch, of length 0: the model stays what the completions were sampled from."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.batches import Batch
from gdpo.objective import advantages
from gdpo.optimizers import NATURAL
from gdpo.training.stepping import NaturalSteps
from gdpo.update.natural_state import NaturalGradient
from gdpo.update.passes import differentiate

# Squares, direction and average of a model's adapter are there once, as in a training, whatever its rewards.
_optimizers: weakref.WeakKeyDictionary[Any, NaturalGradient] = weakref.WeakKeyDictionary()


class _InPlace(NaturalSteps):
    """Computes a step and takes none of it."""

    def _make_optimizer(self, parameters: Sequence[Tensor]) -> NaturalGradient:
        if self._model not in _optimizers:
            _optimizers[self._model] = NaturalGradient(parameters)
        return _optimizers[self._model]

    def _length(self, changes: Tensor) -> float:
        return 0.0


def natural(batch: Batch) -> None:
    """Make the backward pass with kept scores, the direction, the average, the measured divergence and the signals."""
    director, settings = batch.director, replace(batch.settings, optimizer=NATURAL)
    settings = replace(settings, group_size=batch.rewards.shape[2])
    plan = director.decide(director.observe(batch.rewards))
    combined = torch.einsum("k,kbg->bg", plan.weights, plan.advantages)
    combined = (combined / advantages.batch_std(combined, batch.rewards)).flatten()
    flat, device = plan.advantages.flatten(1), batch.rollouts.logprobs.device
    about = (batch.model, batch.rollouts, combined, flat, settings, _go_on)
    found = differentiate(*about, keep=device)
    gradients = found.gradients
    squared = gradients.squared_norms.double().cpu()
    director.measure(plan, gradients.inner_products().cpu(), squared)
    stepper = _InPlace(batch.model, director.objective, settings, _go_on)
    stepper.step(found, batch.rollouts, step=1000)


def _go_on() -> None:
    """Never stop."""
