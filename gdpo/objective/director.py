"""What directs a run: scales, progress and smoothed Gramian, and from them the weights of each step.

All of it is `(K,)` and `(K, K)` in float64, small enough to be written as JSON into a checkpoint.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..to_json import to_json
from . import advantages, gramian as geometry, waiting
from .director_state import bad_entry, read_share, read_tensor
from .dispersion import dispersion, spread
from .objective import Objective
from .plan import Direction, Plan
from .weighting import deficits

# Geometry is smoothed over about 10 steps, since one step's Gramian is mostly noise. Progress is not: weights that
# follow an average come late, and what comes late swings.
_GRAMIAN_DECAY = 0.9
# Steps with the plain preferences, over whose rewards the start is averaged.
_WARMUP = 3
# A step's Gramian counts with at most this multiple of the smoothed one's trace: one very long gradient would
# rule the map for tens of steps, long after it was clipped in the update.
_MAX_GROWTH = 4.0
# Deficit of the reward that is furthest behind below which natural steps become shorter.
_URGENT = 0.3


# What the next step depends on, as attributes; checkpoints have them under these names.
_STATE = ("_steps", "_scale", "_means", "_starts", "_gramian")
_FOUND = "_found"  # of second draws; checkpoints of older versions lack it


class Director:
    """Decides the weights of each step of one run."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._steps = 0
        self._scale: Tensor | None = None
        self._means: Tensor | None = None
        self._starts: Tensor | None = None
        self._gramian: Tensor | None = None
        self._patience = waiting.Patience()

    def observe(self, rewards: Tensor, prompts: int | None = None) -> Tensor:
        """Take in the rewards of a step and return each reward's advantages, `(K, B, G)`.

        Args:
            rewards: `(K, B, G)`.
            prompts: Number of the prompts, the first ones, whose rewards tell how far the run is: those that were
                sampled again are the worse ones. None: all.
        """
        self._steps += 1
        means = rewards[:, :prompts].flatten(1).nanmean(1)  # NaN where nothing was scored
        self._means = smooth(self._means, means, 0.0)  # the newest that is known
        if self._starts is None or self._steps <= _WARMUP:
            self._starts = smooth(self._starts, means, 1 - 1 / self._steps)
        else:  # a reward that scored nothing until now starts here
            self._starts = torch.where(self._starts.isnan(), means, self._starts)
        self._scale = advantages.update_scale(self._scale, rewards, self.objective.ranges)
        return self.objective.method.advantages(self.objective.scores(rewards, self._scale))

    def decide(self, advantages: Tensor) -> Plan:
        """Return the plan of this step, whose weights follow from its rewards and the gradients of the steps before it.

        They are decided before the backward pass, so that it has to make one combined gradient only. The
        Gramian is smoothed over about 10 steps: that the newest is missing changes little.

        Args:
            advantages: Result of `observe`, `(K, B, G)`.
        """
        active = self.objective.preferences > 0  # the others are only watched
        weights = torch.zeros_like(self.objective.preferences)
        weights[active] = self._weights(active)
        furthest = float(self._deficits()[active].max())
        return Plan(advantages, weights, min(1.0, furthest / _URGENT))

    def stuck(self, rewards: Tensor) -> Tensor:
        """Tell which prompts say nothing of the reward furthest behind, `(B,)`; none where progress does not direct."""
        objective, scale = self.objective, self._scale
        if not objective.directs or self._steps < _WARMUP or scale is None:
            return torch.zeros(rewards.shape[1], dtype=torch.bool)
        alive = advantages.told_apart(scale, objective.ranges) & (objective.preferences > 0)
        return waiting.stuck(rewards, objective.targets, self._deficits(), alive)

    @property
    def patience(self) -> float:
        """Return how much stuck prompts wait, 0 to 1, by what second draws have found lately."""
        return self._patience.share

    def learn(self, again: Tensor) -> None:
        """Take in the rewards of stuck prompts that were sampled again, `(K, E, G)`, before they are observed."""
        self._patience.learn(self.stuck(again))

    def wait(self, plan: Plan, rewards: Tensor) -> Plan:
        """Return the plan in which prompts that are stuck ask for less, unless all are."""
        held = waiting.held_back(plan.advantages, self.stuck(rewards), self.patience)
        return replace(plan, advantages=held)

    def combine(self, plan: Plan, rewards: Tensor, ratios: Tensor) -> Tensor:
        """Return the advantages that the step follows, `(B, G)`.

        Args:
            plan: The plan of the step.
            rewards: The step's rewards, `(K, B, G)`.
            ratios: log pi - log pi_base of each completion, `(B, G)`.
        """
        if self._scale is None:
            raise RuntimeError("`combine` needs the step's `observe` before it")
        scores = self.objective.scores(rewards, self._scale)
        return self.objective.method.combine(scores, plan.weights, plan.advantages, ratios)

    def measure(self, plan: Plan, products: Tensor, squared_norms: Tensor) -> Direction:
        """Take in the inner products of this step's reward gradients, and describe the step.

        Args:
            plan: The plan of the step.
            products: g_k . g_l, `(K, K)`.
            squared_norms: |s_i|^2, `(N,)`.
        """
        objective, deficit = self.objective, self._deficits()
        active = objective.preferences > 0
        now = objective.method.gramian(products, plan.advantages.flatten(1), squared_norms)
        self._gramian = smooth(self._gramian, self._limited(now, active), _GRAMIAN_DECAY)
        shown = geometry.positive_semidefinite(self._gramian)
        matrix = geometry.positive_semidefinite(self._gramian[active][:, active])
        reached = dispersion(plan.weights[active], matrix)
        working = objective.weighting.working(objective.preferences, deficit)
        return Direction(
            weights=plan.weights,
            preferences=working if objective.directs else objective.preferences,
            deficits=deficit,
            cosines=geometry.cosines(shown),
            dispersion=reached,
            dispersion_reached=reached >= objective.dispersion_floor - 1e-6,
        )

    def _limited(self, now: Tensor, active: Tensor) -> Tensor:
        """Return a step's Gramian, shortened where its trace is far above that of the steps before."""
        if self._gramian is None:
            return now
        found, known = (m.diagonal()[active].nansum() for m in (now, self._gramian))
        limit = _MAX_GROWTH * known
        return now * (limit / found) if found > limit > 0 else now

    def _weights(self, active: Tensor) -> Tensor:
        """Return the weights of the rewards that have a preference, to sum 1: only proportions count in the update."""
        objective, preferences = self.objective, self.objective.preferences[active]
        if not objective.directs or self._steps <= _WARMUP or self._gramian is None:
            return preferences
        deficit = self._deficits()[active]
        matrix = geometry.positive_semidefinite(self._gramian[active][:, active])
        weights = objective.weighting.rule(matrix, preferences, deficit)
        working = objective.weighting.working(preferences, deficit)
        weights = spread(weights, matrix, working, objective.dispersion_floor)
        return weights / weights.sum().clamp(min=1e-30)

    def _deficits(self) -> Tensor:
        objective, means = self.objective, self._means
        if means is None or self._starts is None:
            return torch.ones_like(objective.preferences)
        known = deficits(means, self._starts, objective.targets, objective.ranges)
        return known.nan_to_num(1.0)  # never scored so far: as far from the target as at the start

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, as plain JSON."""
        known = {name: to_json(getattr(self, name)) for name in _STATE}
        return {**known, _FOUND: self._patience.found}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned after a step, here or in an older version, which kept more.

        Raises:
            TrainingError: It is not such a state.
        """
        missing = [name for name in _STATE if not isinstance(state, dict) or name not in state]
        if missing:
            raise bad_entry("director", f"an object with the entry {missing[0]!r}", state)
        steps, count = state["_steps"], len(self.objective.rewards)
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise bad_entry("_steps", "a whole number, 1 or more", steps)
        self._steps, self._patience = steps, waiting.Patience(read_share(state, _FOUND, 1.0))
        self._scale = read_tensor(state, "_scale", count)
        self._means = read_tensor(state, "_means", count)
        self._starts = read_tensor(state, "_starts", count)
        self._gramian = read_tensor(state, "_gramian", count, count)


def smooth(previous: Tensor | None, now: Tensor, decay: float) -> Tensor:
    """Return an exponential average that starts at its first value; NaN on either side leaves the other."""
    if previous is None:
        return now
    average = decay * previous + (1 - decay) * now
    return torch.where(now.isnan(), previous, torch.where(previous.isnan(), now, average))
