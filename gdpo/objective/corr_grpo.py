"""CorrGRPO (arXiv 2609.36820): GRPO, normalised by the rewards' correlations instead of their scale."""

from __future__ import annotations

import torch
from torch import Tensor

from .advantages import centred

# Published constant of CorrGRPO's denominator.
_CORRELATION_EPS = 1e-6


def correlation_normalised(rewards: Tensor, preferences: Tensor) -> Tensor:
    """Return each reward's part in CorrGRPO's advantage, `(K, B, G)`.

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
