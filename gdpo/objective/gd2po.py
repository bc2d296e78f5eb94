"""GD2PO (arXiv 2606.16771): published GDPO without the completions on which the rewards disagree."""

from __future__ import annotations

import torch
from torch import Tensor

from .advantages import ZSCORE_EPS, decoupled

# GD2PO drops a completion whose rewards disagree and cancel to less than this share: the value of its authors'
# training scripts.
_AGREEMENT = 0.8
# Smaller advantages have no sign (GD2PO's code).
_NO_SIGN = 1e-8


def agreeing(rewards: Tensor, preferences: Tensor) -> Tensor:
    """Tell which completions GD2PO keeps, `(B, G)`: those on which the rewards do not cancel each other out.

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
    """Return each reward's part in GD2PO's advantage before `whitened`, `(K, B, G)`.

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
    return (advantages - chosen.mean()) / (chosen.std() + ZSCORE_EPS) * kept
