r"""How much of what a reward's direction promises is signal, told by leaving one prompt out at a time.

With R = I - H = lambda (G / N + lambda I)^-1 the residuals of the ridge regression in `natural.py` are R A_k, and those
of prompt b under a regression that has not seen it are R_bb^-1 (R A_k)_b, with the block R_bb of its completions: the
block form of Allen's PRESS (1974). Advantages are centred in their group, so that a group has to be left out whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .natural import DAMPING, damped


def left_out(gram: Tensor, advantages: Tensor, group_size: int) -> Tensor:
    """Return what each advantage is predicted to be by the completions of all other prompts, `(K, N)`.

    Args:
        gram: G = U D U', `(N, N)`, float64; the completions of a prompt are neighbours.
        advantages: A, `(K, N)`, float64.
        group_size: Completions of a prompt.
    """
    return _left_out(torch.linalg.inv(damped(gram)), advantages, group_size)


def _left_out(inverse: Tensor, advantages: Tensor, group_size: int) -> Tensor:
    """Return the same from R / lambda, `(N, N)`; lambda drops out."""
    residuals, found = advantages @ inverse, torch.empty_like(advantages)
    for start in range(0, len(inverse), group_size):
        block = slice(start, start + group_size)
        unseen = torch.linalg.solve(inverse[block, block], residuals[:, block].T).T
        found[:, block] = advantages[:, block] - unseen
    return found


def signal_shares(gram: Tensor, advantages: Tensor, group_size: int) -> Tensor:
    """Return the share of each reward's promised gain that holds for prompts that were left out, `(K,)`, 0 to 1.

    share_k = (sum_i A_ki p_ki) / (sum_i A_ki f_ki), with p of `left_out` and f = H A_k, what the regression says of the
    completions that it has seen; cut to [0, 1]. NaN for a reward whose advantages are all 0, and where there is one prompt.

    Args:
        gram: As for `left_out`.
        advantages: As for `left_out`.
        group_size: As for `left_out`.
    """
    if len(gram) <= group_size:
        return torch.full((len(advantages),), torch.nan, dtype=torch.float64)
    inverse = torch.linalg.inv(damped(gram))
    least = DAMPING * gram.diagonal().mean()
    fitted = advantages - least * (advantages @ inverse)
    promised = (advantages * fitted).sum(1)
    held = (advantages * _left_out(inverse, advantages, group_size)).sum(1)
    shares = (held / promised).clamp(0, 1)
    return torch.where(advantages.abs().amax(1) > 0, shares, torch.nan)
