"""Rewards to advantages: how each completion compares with the others of its group.

All functions take rewards `(K, B, G)` with NaN for "unscored", which is left out of every statistic, never
taken for zero. A reward that is constant within a group, or scored once in it, gives advantage 0 there.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Published constant of the group z-score (arXiv 2601.05242, reference code).
ZSCORE_EPS = 1e-4
# A pooled scale falls at most this fast a step, so that a reward that saturates is not blown up again.
_SCALE_DECAY = 0.99
# Smallest scale as a share of a reward's range: below it differences are taken for rounding.
_SCALE_FLOOR = 1e-3


def centred(rewards: Tensor) -> Tensor:
    """Return each reward minus its group's mean, `(K, B, G)`; 0 where unscored and exactly 0 in a constant group."""
    difference = (rewards - rewards.nanmean(-1, keepdim=True)).nan_to_num(0.0)
    return difference.masked_fill(is_constant(rewards)[..., None], 0.0)


def is_constant(rewards: Tensor) -> Tensor:
    """Tell whether all scores of a group are equal, or there are none, `(K, B)`."""
    highest = rewards.nan_to_num(-torch.inf).amax(-1)
    return highest <= rewards.nan_to_num(torch.inf).amin(-1)


def group_std(rewards: Tensor) -> Tensor:
    """Return the unbiased standard deviation within each group, `(K, B, 1)`; NaN with fewer than two scores."""
    scored = (~rewards.isnan()).sum(-1, keepdim=True)
    squares = centred(rewards).square().sum(-1, keepdim=True)
    variance = squares / (scored - 1)
    return torch.where(scored > 1, variance, torch.nan).sqrt()


def decoupled(rewards: Tensor) -> Tensor:
    """Group z-score of each reward on its own, `(K, B, G)`.

    A_ki = (r_ki - mean_group r_k) / (std_group r_k + eps): GDPO, arXiv 2601.05242, step 1.
    """
    return centred(rewards) / (group_std(rewards).nan_to_num(0.0) + ZSCORE_EPS)


def summed_then_normalised(rewards: Tensor, preferences: Tensor) -> Tensor:
    """Return each reward's part in GRPO's advantage, `(K, B, G)`.

    GRPO normalises the weighted sum R = sum_k u_k r_k by its own standard deviation. As that is linear in
    the rewards, part k is (r_ki - mean r_k) / (std R + eps), and sum_k u_k part_k is GRPO's advantage
    (arXiv 2402.03300; several rewards: arXiv 2601.05242, section 2). An unscored reward counts as its group's
    mean.
    """
    total = torch.einsum("k,kbg->bg", preferences, centred(rewards))
    return centred(rewards) / (group_std(total[None]).nan_to_num(0.0) + ZSCORE_EPS)


def pooled(rewards: Tensor, scale: Tensor) -> Tensor:
    """Return each reward minus its group's mean over one scale for all groups, `(K, B, G)`; `scale` is `(K,)`.

    Unlike the group z-score this keeps the size of a difference: a group in which one completion is
    better by a hair does not count as much as one in which half of them fail.
    """
    return centred(rewards) / scale[:, None, None]


def update_scale(previous: Tensor | None, rewards: Tensor, ranges: Tensor) -> Tensor:
    """Return the pooled within-group standard deviation, `(K,)`, which rises at once and falls slowly.

    Args:
        previous: The last step's scale, or None.
        rewards: `(K, B, G)`.
        ranges: Width of each reward's range, `(K,)`, which bounds the scale from below.
    """
    scored = ~rewards.isnan()
    freedom = (scored.sum(-1) - 1).clamp(min=0).sum(-1)  # (K,)
    squares = centred(rewards).square().sum((-2, -1))
    now = (squares / freedom.clamp(min=1)).sqrt()
    if previous is not None:
        now = torch.maximum(now, _SCALE_DECAY * previous)
    return torch.maximum(now, _SCALE_FLOOR * ranges)


def told_apart(scale: Tensor, ranges: Tensor) -> Tensor:
    """Tell which rewards have ever told completions of a group apart, as far as is remembered, `(K,)`.

    Args:
        scale: Result of `update_scale`.
        ranges: As for it.
    """
    return scale > 1.001 * _SCALE_FLOOR * ranges


def batch_std(advantages: Tensor, rewards: Tensor) -> Tensor:
    """Return the standard deviation of the combined advantage over the batch (arXiv 2601.05242, step 3).

    Args:
        advantages: Combined, `(B, G)`; their mean is 0, since each reward's mean is 0 in each group.
        rewards: `(K, B, G)`; a completion that no reward scored is left out.
    """
    scored = advantages[~rewards.isnan().all(0)]
    spread = scored.std() if len(scored) > 1 else scored.new_zeros(())
    return spread + ZSCORE_EPS


def dead_groups(rewards: Tensor) -> Tensor:
    """Return the share of groups in which a reward tells no completion from another, `(K,)`."""
    return is_constant(rewards).double().mean(1)
