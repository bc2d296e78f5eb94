"""The objective of a training: several rewards, and the method that makes one step of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import MethodError, shorten
from ..rewards.reward import Reward
from .methods import METHODS, Method, Scores
from .weighting import WEIGHTINGS, Rule, Weighting

# Sockets of the Combine Rewards node.
MAX_REWARDS = 16

_Value = TypeVar("_Value", Method, Weighting)


@dataclass(frozen=True)
class Objective:
    """What is trained: K rewards, the method, its weighting, the floor of the gradients' dispersion."""

    rewards: tuple[Reward, ...]
    method: Method
    weighting: Weighting
    dispersion_floor: float

    @property
    def names(self) -> list[str]:
        """Return the rewards' names, in order."""
        return [reward.name for reward in self.rewards]

    @property
    def preferences(self) -> Tensor:
        """Return the user's wishes, scaled to sum 1, `(K,)`."""
        values = torch.tensor([r.preference for r in self.rewards], dtype=torch.float64)
        return values / values.sum()

    @property
    def targets(self) -> Tensor:
        """Return what is good enough, `(K,)`."""
        return torch.tensor([r.target for r in self.rewards], dtype=torch.float64)

    @property
    def lows(self) -> Tensor:
        """Lower bound of each reward, `(K,)`."""
        return torch.tensor([r.scorer.value_range[0] for r in self.rewards], dtype=torch.float64)

    @property
    def ranges(self) -> Tensor:
        """Return the width of each reward's range, `(K,)`."""
        bounds = [r.scorer.value_range for r in self.rewards]
        return torch.tensor([high - low for low, high in bounds], dtype=torch.float64)

    @property
    def directs(self) -> bool:
        """Tell whether the weights change from step to step."""
        return self.method.directs and self.weighting.directs

    def scores(self, rewards: Tensor, scale: Tensor) -> Scores:
        """Return the scores `(K, B, G)` of a step as the method takes them; `scale` is `(K,)`."""
        return Scores(rewards, self.preferences, self.lows, self.ranges, scale)


def combine_rewards(
    rewards: Sequence[Reward],
    *,
    method: str | Method = "gdpo",
    weighting: str | Weighting | Rule = "directed",
    dispersion_floor: float = 0.7,
) -> Objective:
    """Put rewards together under a method.

    Args:
        rewards: 1 to 16 rewards with different names.
        method: A key of `METHODS`, or a method of one's own.
        weighting: A key of `WEIGHTINGS`, or a weighting of one's own, which may be just its rule; only methods that
            direct use it.
        dispersion_floor: Smallest dispersion of the weighted gradients, 0 (off) to 1; likewise.

    Raises:
        MethodError: A value is not among these.
    """
    if not 1 <= len(rewards) <= MAX_REWARDS:
        raise MethodError(
            f"Between 1 and {MAX_REWARDS} rewards can be combined. Found {len(rewards)}."
        )
    names = [reward.name for reward in rewards]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise MethodError(f"Two rewards are named {twice!r}; give each its own name.")
    if sum(reward.preference for reward in rewards) <= 0:
        raise MethodError("All preferences are 0, so nothing would be trained; raise at least one.")
    chosen = _choose("method", method, METHODS, Method)
    if callable(weighting):
        weighting = Weighting(getattr(weighting, "__qualname__", "own"), "", weighting)
    rule = _choose("weighting", weighting, WEIGHTINGS, Weighting)
    if not 0 <= dispersion_floor <= 1:
        raise MethodError(f"`dispersion_floor` should lie in [0, 1]. Found {dispersion_floor!r}.")
    return Objective(tuple(rewards), chosen, rule, float(dispersion_floor))


def _choose(
    what: str, given: str | _Value, known: Mapping[str, _Value], kind: type[_Value]
) -> _Value:
    """Return the value of a registry, or one that the caller made, under a name that the registry does not have."""
    if isinstance(given, kind):
        if known.get(given.name, given) is not given:
            raise MethodError(
                f"A {what} of one's own needs a name of its own, since runs are told apart by it. "
                f"Found {given.name!r}, which is built in; choose another."
            )
        return given
    if not isinstance(given, str) or given not in known:
        raise MethodError(
            f"`{what}` should be one of {', '.join(known)}, or a {kind.__name__}. Found {shorten(given)}."
        )
    return known[given]
