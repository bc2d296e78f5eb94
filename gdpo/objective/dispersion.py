"""How evenly the weighted gradients spread over directions, and the floor that keeps them spread."""

from __future__ import annotations

import torch
from torch import Tensor

# The dispersion's blend is looked for on a grid of this many parts, then by bisection in one of them.
_GRID = 20
_BISECTIONS = 20
_TINY = 1e-30


def dispersion(weights: Tensor, gramian: Tensor) -> float:
    """Tell how evenly the weighted gradients spread over directions, in [1/K, 1].

    exp(entropy of the eigenvalue shares of diag(a) M diag(a)) / K, a normalised effective rank: 1 for
    equally long orthogonal contributions, 1/K when one reward or one direction is all there is.
    """
    scaled = weights[:, None] * gramian * weights[None, :]
    values = torch.linalg.eigvalsh((scaled + scaled.T) / 2).clamp(min=0)
    total = values.sum()
    if total <= _TINY:
        return 1 / len(weights)
    shares = values / total
    entropy = -torch.special.xlogy(shares, shares).sum()
    return float(entropy.exp() / len(weights))


def spread(weights: Tensor, gramian: Tensor, preferences: Tensor, floor: float) -> Tensor:
    """Move the weights just far enough for the gradients' dispersion to reach `floor`.

    They are blended towards preference_k / |g_k|, with the working preference: there every reward pushes
    with the strength it still needs, however long its gradient is. The smallest share that reaches the
    floor is taken. Where none does (rewards that want the same, too few samples to tell), the weights
    stay as they are.
    """
    norms = gramian.diagonal().clamp(min=0).sqrt()
    even = torch.where(norms > 0, preferences / norms.clamp(min=1e-30), 0.0)
    if even.sum() <= 0 or weights.sum() <= 0:
        return weights
    even = even * (weights.sum() / even.sum())

    def blend(share: float) -> Tensor:
        return (1 - share) * weights + share * even

    def reaches(share: float) -> bool:
        return dispersion(blend(share), gramian) >= floor

    # Dispersion is not monotone along the way, hence the grid.
    first = next((part for part in range(_GRID + 1) if reaches(part / _GRID)), None)
    if first is None or first == 0:
        return weights
    low, high = (first - 1) / _GRID, first / _GRID
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return blend(high)
