"""From the Gramian of the reward gradients to the weight of each reward. `(K,)` and `(K, K)`, float64.

The rule of this pack, "directed": how far each reward still has to go decides how much it counts, and the inner
products of the gradients see to it that no reward pushes those back that are behind it. Rules of the literature
come from torchjd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import MethodError
from .gramian import dispersion

# Gramian, preferences and deficits to weights.
Rule = Callable[[Tensor, Tensor, Tensor], Tensor]

# What has been reached is held: a reward at its target keeps this share of the mean preference. With 0.05 it was
# let go and had to be won again.
_MAINTENANCE = 0.2
# A deficit of 2 means: as far below the start as the target is above it.
_MAX_DEFICIT = 2.0
# The way from start to target is taken as at least this share of the range.
_MIN_WAY = 0.05
# A reward lags behind another when its deficit is larger by this much: less is noise.
_LEAD = 0.05
# Projections may raise a weight to at most this multiple of the largest working preference.
_MAX_RATIO = 4.0
# Each reward is to gain at least this share of what its own part of the plain sum would give it.
_MARGIN = 0.3
# Hildreth's iteration stops when no multiplier moves by more than this share.
_TOLERANCE = 1e-9
_MAX_SWEEPS = 1000
# The dispersion's blend is looked for on a grid of this many parts, then by bisection in one of them.
_GRID = 20
_BISECTIONS = 20


def deficits(means: Tensor, starts: Tensor, targets: Tensor, ranges: Tensor) -> Tensor:
    """How far each reward still is from its target: 1 at its start, 0 there, at most 2.

    delta_k = clip((target_k - mean_k) / (target_k - start_k), 0, 2).

    Args:
        means: Mean rewards now.
        starts: Mean rewards before training.
        targets: What is good enough.
        ranges: Width of each reward's range.
    """
    way = torch.maximum(targets - starts, _MIN_WAY * ranges)
    return ((targets - means) / way).clamp(0, _MAX_DEFICIT)


def working_preference(preferences: Tensor, deficit: Tensor) -> Tensor:
    """The preference where it is still needed: p_k = u_k delta_k + 0.2 mean(u).

    The second term is the same for all: a reward that is asked for too loudly pulls harder until it is at its
    target, not beyond.
    """
    return preferences * deficit + _MAINTENANCE * preferences.mean()


def _project(
    matrix: list[list[float]], start: list[float], faces: list[int], least: list[float]
) -> list[float]:
    """The nearest vector to `start` whose inner product with gradient i is at least least_i, for each of `faces`.

    Hildreth's procedure in coordinates of all gradients; on plain numbers, as K is small and the loop is long.
    """
    row = list(start)
    products = [  # inner products of the current vector with every gradient
        sum(s * m for s, m in zip(start, column, strict=True)) for column in matrix
    ]
    for _ in range(_MAX_SWEEPS):
        moved = 0.0
        for i in faces:
            step = max((least[i] - products[i]) / matrix[i][i], start[i] - row[i])
            row[i] += step
            products = [p + step * m for p, m in zip(products, matrix[i], strict=True)]
            moved = max(moved, abs(step) / (1 + row[i]))
        if moved < _TOLERANCE:
            break
    return row


def yielding(gramian: Tensor, deficit: Tensor) -> Tensor:
    """Each reward's gradient, projected so that it pushes back none that lags behind it, `(K, K)`.

    Row k holds T_k g_k = g_k + sum_l lambda_kl g_l in coordinates of all gradients: the nearest vector to g_k with
    g_l . T_k g_k >= 0 for each l that is clearly further from its target than k is; lambda >= 0 on those alone.
    """
    matrix = gramian.tolist()
    order = deficit.argsort(descending=True, stable=True).tolist()
    rows = []
    for k in range(len(matrix)):
        behind = [i for i in order if deficit[i] > deficit[k] + _LEAD and matrix[i][i] > 0]
        own = [float(i == k) for i in range(len(matrix))]
        rows.append(_project(matrix, own, behind, [0.0] * len(matrix)))
    return torch.tensor(rows, dtype=gramian.dtype)


def directed(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
    """Weights by progress and direction: no reward's part of the step pushes back one that lags behind it.

    d = sum_k p_k T_k g_k with the working preferences p and T of `yielding`, so alpha_l = sum_k p_k T_kl, bounded.
    What lags furthest is never projected: progress decides who yields, the gradients decide what. (DualProj, arXiv
    2406.16232, protects all rewards alike, and so keeps the one that is found last from being found.)
    """
    preference = working_preference(preferences, deficit)
    weights = torch.zeros_like(preference)
    for share, row in zip(preference, yielding(gramian, deficit), strict=True):
        weights += share * row
    return weights.clamp(max=_MAX_RATIO * float(preference.max()))


def by_deficit(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
    """Weights by progress alone: the working preferences."""
    return working_preference(preferences, deficit)


def fixed(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
    """The user's preferences, unchanged."""
    return preferences.clone()


def dualproj_margin(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
    """DualProj that keeps off the edge: alpha = u + lambda, the nearest to u with g_k . d >= 0.3 u_k |g_k|^2.

    DualProj (arXiv 2406.16232) asks for g_k . d >= 0 and, where rewards conflict, ends exactly there, so that
    noise turns half of the steps against the protected reward. The margin is this pack's own. lambda solves
    min_{lambda >= 0} 1/2 lambda' M lambda + lambda' (M u - m), m_k = 0.3 u_k M_kk, the dual of that projection.
    """
    matrix, start = gramian.tolist(), preferences.tolist()
    least = (_MARGIN * preferences * gramian.diagonal()).tolist()
    faces = [i for i in range(len(matrix)) if matrix[i][i] > 0]
    return torch.tensor(_project(matrix, start, faces, least), dtype=gramian.dtype)


def _torchjd(make: Callable[[Any, Tensor], Any], *, preferred: bool) -> Rule:
    """A weighting of torchjd, with the preference as its vector, or multiplied on where it knows none."""

    def rule(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
        from torchjd import aggregation

        # Some draw at random (PCGrad its order): from a generator of their own, the same at every step, so
        # that a run repeats itself and the host's random numbers are left alone.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            weights = make(aggregation, preferences)(gramian)
        return weights if preferred else weights * preferences

    return rule


WEIGHTINGS: dict[str, tuple[Rule, str]] = {
    "directed": (
        directed,
        "by deficit; no reward pushes back one that lags behind it (this pack's GDPO)",
    ),
    "by_deficit": (by_deficit, "by deficit alone, no projection"),
    "fixed": (fixed, "the preferences, unchanged"),
    "upgrad": (
        _torchjd(lambda a, u: a.UPGradWeighting(pref_vector=u), preferred=True),
        "UPGrad, arXiv 2406.16232: no reward is pushed back, symmetric",
    ),
    "dualproj": (
        _torchjd(lambda a, u: a.DualProjWeighting(pref_vector=u), preferred=True),
        "DualProj, arXiv 2406.16232: nearest direction that pushes no reward back",
    ),
    "mgda": (
        _torchjd(lambda a, u: a.MGDAWeighting(), preferred=False),
        "MGDA: the shortest convex combination, then times the preferences",
    ),
    "pcgrad": (
        _torchjd(lambda a, u: a.PCGradWeighting(), preferred=False),
        "PCGrad, arXiv 2001.06782: pairwise projections, then times the preferences",
    ),
    "dualproj_margin": (
        dualproj_margin,
        "DualProj that leaves each reward at least 30 % of the gain of its own part",
    ),
}


def weigh(rule: str, gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
    """The weights by the named rule of `WEIGHTINGS`."""
    if rule not in WEIGHTINGS:
        raise MethodError(f"`weighting` should be one of {', '.join(WEIGHTINGS)}. Found {rule!r}.")
    return WEIGHTINGS[rule][0](gramian, preferences, deficit)


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
