"""The selectable methods: how rewards become one step, and what a run needs to know about them.

Two things are called GDPO. The published one, "Group reward-Decoupled Normalization" (arXiv 2601.05242),
normalises each reward in its group and adds them with fixed weights: `gdpo_decoupled` here. The one this
pack is built for, "gradient-directed", sets the weights at each step from progress and from the inner
products of the reward gradients: `gdpo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import MethodError
from ..rewards.reward import Reward
from . import advantages
from .weighting import WEIGHTINGS

METHODS: dict[str, str] = {
    "gdpo": "gradient-directed: pooled scale, weights from progress and conflict at each step",
    "gdpo_decoupled": "published GDPO, arXiv 2601.05242: group z-score per reward, fixed weights",
    "grpo": "GRPO: rewards are added with fixed weights, then normalised in the group",
    "group_dpo": "online group-wise DPO on the fixed-weight sum of the rewards",
    "gd2po": "GD2PO, arXiv 2606.16771: published GDPO without the completions on which the rewards disagree",
    "corr_grpo": "CorrGRPO, arXiv 2609.36820: GRPO, normalised by the rewards' correlations instead of their scale",
    "saturation_aware": "SA-MRPO, arXiv 2608.16072: published GDPO, a reward counts less the nearer it is to its best",
}
# Sockets of the Combine Rewards node.
MAX_REWARDS = 16
# Pull of group_dpo towards the base (arXiv 2604.15602).
_GROUP_DPO_BETA = 0.1


@dataclass(frozen=True)
class Objective:
    """What is trained: K rewards, the method, its weighting rule, the floor of the gradients' dispersion."""

    rewards: tuple[Reward, ...]
    method: str
    weighting: str
    dispersion_floor: float

    @property
    def names(self) -> list[str]:
        """The rewards' names, in order."""
        return [reward.name for reward in self.rewards]

    @property
    def preferences(self) -> Tensor:
        """The user's wishes, scaled to sum 1, `(K,)`."""
        values = torch.tensor([r.preference for r in self.rewards], dtype=torch.float64)
        return values / values.sum()

    @property
    def targets(self) -> Tensor:
        """What is good enough, `(K,)`."""
        return torch.tensor([r.target for r in self.rewards], dtype=torch.float64)

    @property
    def lows(self) -> Tensor:
        """Lower bound of each reward, `(K,)`."""
        return torch.tensor([r.scorer.value_range[0] for r in self.rewards], dtype=torch.float64)

    @property
    def ranges(self) -> Tensor:
        """Width of each reward's range, `(K,)`."""
        bounds = [r.scorer.value_range for r in self.rewards]
        return torch.tensor([high - low for low, high in bounds], dtype=torch.float64)

    @property
    def directs(self) -> bool:
        """Whether the weights change from step to step."""
        return self.method == "gdpo" and self.weighting != "fixed"


def combine_rewards(
    rewards: Sequence[Reward],
    *,
    method: str = "gdpo",
    weighting: str = "directed",
    dispersion_floor: float = 0.7,
) -> Objective:
    """Put rewards together under a method.

    Args:
        rewards: 1 to 16 rewards with different names.
        method: One of `METHODS`.
        weighting: One of `WEIGHTINGS`; used by `gdpo` only.
        dispersion_floor: Smallest dispersion of the weighted gradients, 0 (off) to 1; used by `gdpo` only.

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
    if method not in METHODS:
        raise MethodError(f"`method` should be one of {', '.join(METHODS)}. Found {method!r}.")
    if weighting not in WEIGHTINGS:
        raise MethodError(
            f"`weighting` should be one of {', '.join(WEIGHTINGS)}. Found {weighting!r}."
        )
    if not 0 <= dispersion_floor <= 1:
        raise MethodError(f"`dispersion_floor` should lie in [0, 1]. Found {dispersion_floor!r}.")
    return Objective(tuple(rewards), method, weighting, float(dispersion_floor))


def reward_advantages(objective: Objective, rewards: Tensor, scale: Tensor) -> Tensor:
    """Each reward's advantages under the method, `(K, B, G)`; for group_dpo they only serve diagnosis."""
    if objective.method == "gdpo":
        return advantages.pooled(rewards, scale)
    if objective.method == "grpo":
        return advantages.summed_then_normalised(rewards, objective.preferences)
    if objective.method == "gd2po":
        return advantages.filtered(rewards, objective.preferences)
    if objective.method == "corr_grpo":
        return advantages.correlation_normalised(rewards, objective.preferences)
    if objective.method == "saturation_aware":
        return advantages.saturation_aware(rewards, objective.lows, objective.ranges)
    return advantages.decoupled(rewards)


def combine_advantages(
    objective: Objective, weights: Tensor, parts: Tensor, rewards: Tensor, ratios: Tensor
) -> Tensor:
    """The advantages that the step follows, `(B, G)`: the weighted sum of the rewards', or the method's own.

    Args:
        objective: Rewards and method.
        weights: One a reward, `(K,)`.
        parts: Advantages of each reward, `(K, B, G)`.
        rewards: `(K, B, G)`.
        ratios: log pi - log pi_base of each completion, `(B, G)`; used by `group_dpo` only.
    """
    if objective.method == "group_dpo":
        # Centred, so that an unscored reward counts as its group's mean; in a group only differences matter.
        totals = torch.einsum("k,kbg->bg", objective.preferences, advantages.centred(rewards))
        return advantages.group_dpo(totals, ratios, _GROUP_DPO_BETA)
    combined = torch.einsum("k,kbg->bg", weights, parts)
    if objective.method in {"grpo", "corr_grpo"}:  # they have normalised in the group
        return combined
    if objective.method == "gd2po":
        return advantages.whitened(combined, advantages.agreeing(rewards, objective.preferences))
    return combined / advantages.batch_std(combined, rewards)
