"""From the rewards' advantages to the gradient that the optimiser follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..memory import Limits, Retreat, explain_shortage
from ..objective.director import Director
from ..objective.objective import Objective
from ..objective.plan import Plan
from ..optimizers import NATURAL
from ..policies.base import Base
from ..rollouts import Rollouts
from ..settings import TrainSettings
from ..update.passes import Differentiated, differentiate, log_ratios
from .schedule import derive_seed
from .stepping import StepperMaker, make_stepper

# Nats that a natural step wishes for an advantage of one standard deviation. More than it gets: the step is then of the
# length that it may have at most, until the policy can no longer express what is asked for.
_GAIN = 4.0
_TINY = 1e-30


@dataclass(frozen=True)
class Parts:
    """The exchangeable parts of a step; who compares several ways to make it gives others.

    Attributes:
        director: Makes what decides the weights of one run.
        differentiate: Gives the step's gradient and what is known of each reward's, as `update.passes` does.
        stepper: Makes what moves the parameters of one run.
    """

    director: Callable[[Objective], Director] = Director
    differentiate: Callable[..., Differentiated] = differentiate
    stepper: StepperMaker = make_stepper


class StepGradient:
    """Computes the gradient of each step of one run, in smaller micro-batches once memory has run out."""

    def __init__(
        self,
        model: Any,
        base: Base,
        objective: Objective,
        settings: TrainSettings,
        parts: Parts,
        poll: Callable[[], None],
    ) -> None:
        """Make the parts of the run; `poll` may raise to stop the computation."""
        self.director = parts.director(objective)
        self._differentiate = parts.differentiate
        self._model, self._base, self._objective = model, base, objective
        self._settings, self._poll = settings, poll
        self._retreat = Retreat(settings, base.device)

    def compute(
        self, plan: Plan, rewards: Tensor, rollouts: Rollouts, step: int
    ) -> tuple[Tensor, Differentiated]:
        """Return the log-ratios to the base `(N, T)`, and the gradients.

        Args:
            plan: The plan of the step.
            rewards: Rewards of the step, `(K, B, G)`.
            rollouts: The N completions of the step.
            step: Number of the step.

        Raises:
            TrainingError: Memory ran out, and smaller micro-batches did not help.
        """
        model, poll, settings = self._model, self._poll, self._settings
        all_ratios = self._objective.method.needs_ratios or settings.kl_coeff > 0
        every = 1 if all_ratios else settings.group_size
        seed = derive_seed(settings.rng_seed, "sketch", step)
        advantages = plan.advantages.flatten(1)

        def attempt(limits: Limits) -> tuple[Tensor, Differentiated]:
            limited = limits.settings
            ratios = log_ratios(model, rollouts, limited, every, poll)
            combined = self._combine(plan, rewards, rollouts, ratios)
            keep = self._place_of_scores(limits)
            return ratios, self._differentiate(
                model, rollouts, combined, advantages, limited, poll, seed=seed, keep=keep
            )

        return self._retreat.run(attempt, partial(self._explain, rollouts))

    def _combine(self, plan: Plan, rewards: Tensor, rollouts: Rollouts, ratios: Tensor) -> Tensor:
        """Return the advantages that the step follows, `(N,)`: the method's combination, and the pull to the base."""
        totals = ratios.sum(1).double().cpu().view(rewards.shape[1:])
        natural = self._settings.optimizer == NATURAL
        followed = self.director.wait(plan, rewards) if natural else plan
        combined = self.director.combine(followed, rewards, totals)
        if natural:
            combined = self._in_nats(plan, combined)
        elif self._objective.method.weighs_completions:
            # Undo the token normaliser of `differentiate`.
            combined = combined * float(rollouts.lengths.sum())
        if self._settings.kl_coeff > 0:
            pull = totals - totals.mean(-1, keepdim=True)
            combined = combined - self._settings.kl_coeff * pull
        return combined.flatten()

    def _place_of_scores(self, limits: Limits) -> torch.device | None:
        """Return where the completions' scores are kept; None where the step does not need them."""
        if self._settings.optimizer != NATURAL:
            return None
        return torch.device("cpu") if limits.spills else self._model.device

    def _in_nats(self, plan: Plan, combined: Tensor) -> Tensor:
        """Return the wished change of each log-likelihood, whose scale tells a natural step how far to go."""
        if self._objective.method.weighs_completions:  # the others are of size 1 already
            combined = combined / combined.std().clamp(min=_TINY)
        return _GAIN * plan.urgency * combined

    def _explain(self, rollouts: Rollouts, settings: TrainSettings) -> str:
        """Return what the training needs, and what to change."""
        return explain_shortage(
            self._base.model.config,
            settings,
            rewards=len(self._objective.rewards),
            precision=self._base.precision,
            device=self._base.device,
            prompt_tokens=rollouts.prompt_ids.shape[1],
            adapter=self._model.peft_config["default"].to_dict(),
            loaded=True,
            tokens=len(self._base.tokenizer),
        )
