"""The inner products of the reward gradients: Gramian and cosines. `(K, K)`, float64."""

from __future__ import annotations

import torch
from torch import Tensor

# Share of the diagonal mixed in, so that nearly equal rewards do not make the matrix singular.
_SHRINK = 0.02
_TINY = 1e-30


def debiased(raw: Tensor, advantages: Tensor, squared_norms: Tensor) -> Tensor:
    """Remove each completion's product with itself from the Gramian of sampled gradients.

    M_kl = (g_k . g_l - (1/N^2) sum_i A_ki A_li |s_i|^2) N / (N - 1). The expectation of g_k . g_l over
    samples is the true product plus that self term, whose sign is that of the advantages' correlation:
    two rewards that conflict can look aligned without this.

    Args:
        raw: g_k . g_l, `(K, K)`.
        advantages: A, `(K, N)`.
        squared_norms: |s_i|^2, `(N,)`.
    """
    count = advantages.shape[1]
    own = (advantages * squared_norms) @ advantages.T / count**2
    return (raw - own) * count / max(count - 1, 1)


def positive_semidefinite(gramian: Tensor) -> Tensor:
    """Return the nearest Gramian: symmetric, negative eigenvalues cut, a little of the diagonal mixed in."""
    values, vectors = torch.linalg.eigh((gramian + gramian.T) / 2)
    nearest = vectors @ torch.diag(values.clamp(min=0)) @ vectors.T
    return (1 - _SHRINK) * nearest + _SHRINK * torch.diag(nearest.diagonal())


def cosines(gramian: Tensor) -> Tensor:
    """Return inner products of the unit gradients, in [-1, 1]; 0 for a vanishing gradient."""
    norms = gramian.diagonal().clamp(min=0).sqrt()
    sizes = norms[:, None] * norms[None, :]
    return torch.where(sizes > _TINY, gramian / sizes.clamp(min=_TINY), 0.0).clamp(-1, 1)
