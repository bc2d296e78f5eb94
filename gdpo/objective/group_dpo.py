"""Online group-wise DPO (arXiv 2604.15602) as an advantage."""

from __future__ import annotations

import torch
from torch import Tensor


def group_dpo(totals: Tensor, ratios: Tensor, beta: float) -> Tensor:
    """Return the advantage of online group-wise DPO: minus the gradient of its pair loss by log-likelihood.

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
