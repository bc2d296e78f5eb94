"""The methods: how the scores of a step become the advantages that it follows.

Two things are called GDPO. The published one, "Group reward-Decoupled Normalization" (arXiv 2601.05242),
normalises each reward in its group and adds them with fixed weights: `gdpo_decoupled` here. The one this
pack is built for, "gradient-directed", sets the weights at each step from progress and from the inner
products of the reward gradients: `gdpo`.

A method is a value. What differs between methods is in it, so that nothing else asks for a method's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import advantages, corr_grpo, gd2po, gramian, group_dpo, sa_mrpo

# Pull of group_dpo towards the base (arXiv 2604.15602).
_GROUP_DPO_BETA = 0.1


@dataclass(frozen=True)
class Scores:
    """The scores of a step, with what a method may know of its K rewards.

    Attributes:
        rewards: `(K, B, G)`, NaN where unscored.
        preferences: The user's wishes, scaled to sum 1, `(K,)`.
        lows: Lower bound of each reward, `(K,)`.
        ranges: Width of each reward's range, `(K,)`.
        scale: Pooled deviation of each reward within its groups so far, `(K,)`.
    """

    rewards: Tensor
    preferences: Tensor
    lows: Tensor
    ranges: Tensor
    scale: Tensor


def weighted_sum(scores: Scores, weights: Tensor, parts: Tensor, ratios: Tensor) -> Tensor:
    """sum_k alpha_k A_k, `(B, G)`: enough where the parts are normalised in their groups already."""
    return torch.einsum("k,kbg->bg", weights, parts)


def batch_normalised(scores: Scores, weights: Tensor, parts: Tensor, ratios: Tensor) -> Tensor:
    """Return the weighted sum over its deviation in the batch, `(B, G)` (arXiv 2601.05242, step 3)."""
    combined = weighted_sum(scores, weights, parts, ratios)
    return combined / advantages.batch_std(combined, scores.rewards)


@dataclass(frozen=True)
class Method:
    """One way to turn several rewards into one step.

    Attributes:
        name: Its value in saved workflows.
        summary: Line in the menu.
        advantages: Each reward's advantages, `(K, B, G)`, from the scores.
        combine: The advantages that the step follows, `(B, G)`, from scores, weights `(K,)`, the rewards'
            advantages `(K, B, G)` and log pi - log pi_base of each completion `(B, G)`.
        directs: True if the weights change from step to step; otherwise they are the preferences.
        gramian: Inner products of the rewards' gradients from the raw ones; see `gramian.debiased`.
        needs_ratios: True if `combine` reads the log-ratio of every completion; otherwise one of each
            group is enough, which is cheaper.
        weighs_completions: True if every completion counts the same, however long it is, as in DPO;
            otherwise every token does (DAPO, arXiv 2503.14476).
        for_comparison: True if it lost in this pack's benchmark and is offered for comparison only.
    """

    name: str
    summary: str
    advantages: Callable[[Scores], Tensor]
    combine: Callable[[Scores, Tensor, Tensor, Tensor], Tensor] = batch_normalised
    directs: bool = False
    gramian: Callable[[Tensor, Tensor, Tensor], Tensor] = gramian.debiased
    needs_ratios: bool = False
    weighs_completions: bool = False
    for_comparison: bool = False


def _pooled(scores: Scores) -> Tensor:
    return advantages.pooled(scores.rewards, scores.scale)


def _decoupled(scores: Scores) -> Tensor:
    return advantages.decoupled(scores.rewards)


def _grpo(scores: Scores) -> Tensor:
    return advantages.summed_then_normalised(scores.rewards, scores.preferences)


def _saturation_aware(scores: Scores) -> Tensor:
    return sa_mrpo.saturation_aware(scores.rewards, scores.lows, scores.ranges)


def _gd2po(scores: Scores) -> Tensor:
    return gd2po.filtered(scores.rewards, scores.preferences)


def _corr_grpo(scores: Scores) -> Tensor:
    return corr_grpo.correlation_normalised(scores.rewards, scores.preferences)


def _among_agreeing(scores: Scores, weights: Tensor, parts: Tensor, ratios: Tensor) -> Tensor:
    kept = gd2po.agreeing(scores.rewards, scores.preferences)
    return gd2po.whitened(weighted_sum(scores, weights, parts, ratios), kept)


def _group_dpo(scores: Scores, weights: Tensor, parts: Tensor, ratios: Tensor) -> Tensor:
    # Centred, so that an unscored reward counts as its group's mean; in a group only differences matter.
    totals = torch.einsum("k,kbg->bg", scores.preferences, advantages.centred(scores.rewards))
    return group_dpo.group_dpo(totals, ratios, _GROUP_DPO_BETA)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "gdpo",
            "gradient-directed: pooled scale, weights from progress and conflict at each step",
            _pooled,
            directs=True,
        ),
        Method(
            "gdpo_decoupled",
            "published GDPO, arXiv 2601.05242: group z-score per reward, fixed weights",
            _decoupled,
        ),
        Method(
            "saturation_aware",
            "SA-MRPO, arXiv 2608.16072: published GDPO, a reward counts less the nearer it is to its best",
            _saturation_aware,
        ),
        Method(
            "grpo",
            "GRPO: rewards are added with fixed weights, then normalised in the group",
            _grpo,
            weighted_sum,
        ),
        Method(
            "group_dpo",
            "online group-wise DPO on the fixed-weight sum of the rewards",
            _decoupled,  # for the record alone: the step follows `_group_dpo`
            _group_dpo,
            needs_ratios=True,
            weighs_completions=True,
        ),
        Method(
            "gd2po",
            "GD2PO, arXiv 2606.16771: published GDPO without the completions on which the rewards disagree",
            _gd2po,
            _among_agreeing,
            for_comparison=True,
        ),
        Method(
            "corr_grpo",
            "CorrGRPO, arXiv 2609.36820: GRPO, normalised by the rewards' correlations instead of their scale",
            _corr_grpo,
            weighted_sum,
            for_comparison=True,
        ),
    )
}
