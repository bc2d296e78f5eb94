"""Rewards to advantages: how each completion compares with the others of its group.

All functions take rewards `(K, B, G)` with NaN for "unscored", which is left out of every statistic, never
taken for zero. A reward that is constant within a group, or scored once in it, gives advantage 0 there.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Published constant of the group z-score (arXiv 2601.05242, reference code).
_ZSCORE_EPS = 1e-4
# A pooled scale falls at most this fast a step, so that a reward that saturates is not blown up again.
_SCALE_DECAY = 0.99
# Smallest scale as a share of a reward's range: below it differences are taken for rounding.
_SCALE_FLOOR = 1e-3
# GD2PO drops a completion whose rewards disagree and cancel to less than this share: the value of its authors'
# training scripts.
_AGREEMENT = 0.8
# Smaller advantages have no sign (GD2PO's code).
_NO_SIGN = 1e-8
# Published constant of CorrGRPO's denominator.
_CORRELATION_EPS = 1e-6
# SA-MRPO's exponent: the best average of those compared in its table 4.
_SATURATION_EXPONENT = 0.5


def centred(rewards: Tensor) -> Tensor:
    """Reward minus its group's mean, `(K, B, G)`; 0 where unscored and exactly 0 in a constant group."""
    difference = (rewards - rewards.nanmean(-1, keepdim=True)).nan_to_num(0.0)
    return difference.masked_fill(is_constant(rewards)[..., None], 0.0)


def is_constant(rewards: Tensor) -> Tensor:
    """Whether all scores of a group are equal, or there are none, `(K, B)`."""
    highest = rewards.nan_to_num(-torch.inf).amax(-1)
    return highest <= rewards.nan_to_num(torch.inf).amin(-1)


def group_std(rewards: Tensor) -> Tensor:
    """Unbiased standard deviation within each group, `(K, B, 1)`; NaN with fewer than two scores."""
    scored = (~rewards.isnan()).sum(-1, keepdim=True)
    squares = centred(rewards).square().sum(-1, keepdim=True)
    variance = squares / (scored - 1)
    return torch.where(scored > 1, variance, torch.nan).sqrt()


def decoupled(rewards: Tensor) -> Tensor:
    """Group z-score of each reward on its own, `(K, B, G)`.

    A_ki = (r_ki - mean_group r_k) / (std_group r_k + eps): GDPO, arXiv 2601.05242, step 1.
    """
    return centred(rewards) / (group_std(rewards).nan_to_num(0.0) + _ZSCORE_EPS)


def summed_then_normalised(rewards: Tensor, preferences: Tensor) -> Tensor:
    """Each reward's part in GRPO's advantage, `(K, B, G)`.

    GRPO normalises the weighted sum R = sum_k u_k r_k by its own standard deviation. As that is linear in
    the rewards, part k is (r_ki - mean r_k) / (std R + eps), and sum_k u_k part_k is GRPO's advantage
    (arXiv 2402.03300; several rewards: arXiv 2601.05242, section 2). An unscored reward counts as its group's
    mean.
    """
    total = torch.einsum("k,kbg->bg", preferences, centred(rewards))
    return centred(rewards) / (group_std(total[None]).nan_to_num(0.0) + _ZSCORE_EPS)


def pooled(rewards: Tensor, scale: Tensor) -> Tensor:
    """Reward minus its group's mean over one scale for all groups, `(K, B, G)`; `scale` is `(K,)`.

    Unlike the group z-score this keeps the size of a difference: a group in which one completion is
    better by a hair does not count as much as one in which half of them fail.
    """
    return centred(rewards) / scale[:, None, None]


def update_scale(previous: Tensor | None, rewards: Tensor, ranges: Tensor) -> Tensor:
    """The pooled within-group standard deviation, `(K,)`, which rises at once and falls slowly.

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


def batch_std(advantages: Tensor, rewards: Tensor) -> Tensor:
    """Standard deviation of the combined advantage over the batch (arXiv 2601.05242, step 3).

    Args:
        advantages: Combined, `(B, G)`; their mean is 0, since each reward's mean is 0 in each group.
        rewards: `(K, B, G)`; a completion that no reward scored is left out.
    """
    scored = advantages[~rewards.isnan().all(0)]
    spread = scored.std() if len(scored) > 1 else scored.new_zeros(())
    return spread + _ZSCORE_EPS


def agreeing(rewards: Tensor, preferences: Tensor) -> Tensor:
    """Which completions GD2PO keeps, `(B, G)`: those on which the rewards do not cancel each other out.

    Completion i is dropped if its weighted advantages u_k A_ki differ in sign and
    |sum_k u_k A_ki| / sum_k u_k |A_ki| < 0.8, with A of `decoupled`. This is the softer of the two published rules
    ("SNR"): dropping at any difference of sign leaves too few completions from 3 rewards on (arXiv 2606.16771).
    The reference code has equal weights; here a reward with preference 0 has no say. Nothing is kept of a
    completion that no reward scored.
    """
    advantage = preferences[:, None, None] * decoupled(rewards)
    mixed = (advantage > _NO_SIGN).any(0) & (advantage < -_NO_SIGN).any(0)
    left = advantage.sum(0).abs() / advantage.abs().sum(0).clamp(min=_NO_SIGN)
    return ~(mixed & (left < _AGREEMENT)) & ~rewards.isnan().all(0)


def filtered(rewards: Tensor, preferences: Tensor) -> Tensor:
    """Each reward's part in GD2PO's advantage before `whitened`, `(K, B, G)`.

    Part k is q_b m_i A_ki: A of `decoupled`, m_i whether i is kept (`agreeing`), q_b the kept share of the scored
    completions of its group, so that a prompt on which the rewards mostly disagree counts less (arXiv 2606.16771).
    """
    kept = agreeing(rewards, preferences)
    scored = (~rewards.isnan().all(0)).sum(-1, keepdim=True)
    share = kept.sum(-1, keepdim=True) / scored.clamp(min=1)
    return decoupled(rewards) * (kept * share)


def whitened(advantages: Tensor, kept: Tensor) -> Tensor:
    """(A_i - mean) / (std + eps) over the kept completions of the batch, 0 elsewhere, `(B, G)`.

    GD2PO's last step (arXiv 2606.16771). Filtering leaves a mean that is not 0; taking it away is a baseline and
    belongs to no single reward. The reference code counts tokens here, this counts completions, as published
    GDPO does (arXiv 2601.05242).
    """
    chosen = advantages[kept]
    if len(chosen) < 2:
        return torch.zeros_like(advantages)
    return (advantages - chosen.mean()) / (chosen.std() + _ZSCORE_EPS) * kept


def correlation_normalised(rewards: Tensor, preferences: Tensor) -> Tensor:
    """Each reward's part in CorrGRPO's advantage, `(K, B, G)`.

    CorrGRPO divides the centred weighted sum by sqrt(sum_kl rho_kl + eps), where GRPO divides it by its standard
    deviation, the root of the summed covariances; rho is Pearson's correlation in the group, 0 for a reward that
    is constant there (arXiv 2609.36820; the authors' code has eps inside the root, 1e-6). Part k is
    (r_ki - mean r_k) / that root. As rho_kl is the product of the unit vectors of r_k and r_l, the sum is the
    squared length of the unit vectors' sum. Two rewards that are exact opposites give a root of nearly 0 and
    long steps, which groups much larger than the number of rewards and the gradient's clipping bound.
    """
    difference = centred(rewards)
    lengths = difference.square().sum(-1, keepdim=True).sqrt()
    units = torch.where(lengths > 0, difference / lengths, 0.0)
    together = units[preferences > 0].sum(0).square().sum(-1, keepdim=True)  # (B, 1)
    return difference / (together + _CORRELATION_EPS).sqrt()


def saturations(rewards: Tensor, lows: Tensor, ranges: Tensor) -> Tensor:
    """How much of its range each reward has reached, s_k = (batch mean of r_k - min) / (max - min), `(K,)` in [0, 1].

    A reward that scored nothing counts as at its minimum.
    """
    means = rewards.flatten(1).nanmean(1)
    return ((means - lows) / ranges).clamp(0, 1).nan_to_num(0.0)


def saturation_aware(rewards: Tensor, lows: Tensor, ranges: Tensor) -> Tensor:
    """Each reward's part in SA-MRPO's advantage before `batch_std`, `(K, B, G)`.

    Part k is (1 - s_k)^0.5 A_ki with A of `decoupled` and s of `saturations`: a reward counts less the nearer it
    is to the best it can be (arXiv 2608.16072, section 4.1, equation 1; exponent: section 5.5). The paper's
    standard deviations divide by G, not by G - 1 as those of published GDPO; the common factor drops out in the
    batch normalisation that follows.

    Args:
        rewards: `(K, B, G)`.
        lows: Lower bound of each reward, `(K,)`.
        ranges: Width of each reward's range, `(K,)`.
    """
    room = (1 - saturations(rewards, lows, ranges)) ** _SATURATION_EXPONENT
    return room[:, None, None] * decoupled(rewards)


def group_dpo(totals: Tensor, ratios: Tensor, beta: float) -> Tensor:
    """Online group-wise DPO as an advantage: minus the gradient of its pair loss by log-likelihood.

    L = -(1/|P|) sum_{(i,j) in P} log sigmoid(u_i - u_j), u_i = beta log(pi(y_i) / pi_ref(y_i)), over all
    pairs P of a group in which i has the higher total reward (arXiv 2604.15602; DPO: arXiv 2305.18290).

    Args:
        totals: Fixed-weight sum of the rewards, `(B, G)`.
        ratios: log pi - log pi_ref of each completion, `(B, G)`.
        beta: Strength of the pull towards the reference.

    Returns:
        A with dL/d theta = -sum_i A_i grad log pi(y_i), `(B, G)`; 0 in groups without a pair.
    """
    better = (totals[:, :, None] > totals[:, None, :]).to(ratios)  # (B, i, j): i beats j
    u = beta * ratios
    push = better * torch.sigmoid(u[:, None, :] - u[:, :, None])  # sigma(u_j - u_i)
    pairs = better.sum().clamp(min=1)
    return beta * (push.sum(2) - push.sum(1)) / pairs


def dead_groups(rewards: Tensor) -> Tensor:
    """Share of groups in which a reward tells no completion from another, `(K,)`."""
    return is_constant(rewards).double().mean(1)
