"""From the Gramian of the reward gradients to the weight of each reward. `(K,)` and `(K, K)`, float64.

The rule of this pack, "directed": how far each reward still has to go decides how much it counts, and the inner
products of the gradients see to it that no reward pushes those back that are behind it. Rules of the literature
come from torchjd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .projection import project

# Gramian `(K, K)`, preferences `(K,)` and deficits `(K,)` to weights `(K,)`.
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


def deficits(means: Tensor, starts: Tensor, targets: Tensor, ranges: Tensor) -> Tensor:
    """Tell how far each reward still is from its target: 1 at its start, 0 there, at most 2.

    delta_k = clip((target_k - mean_k) / (target_k - start_k), 0, 2).

    Args:
        means: Mean rewards now.
        starts: Mean rewards before training.
        targets: Values that are good enough.
        ranges: Width of each reward's range.
    """
    way = torch.maximum(targets - starts, _MIN_WAY * ranges)
    return ((targets - means) / way).clamp(0, _MAX_DEFICIT)


def working_preference(preferences: Tensor, deficit: Tensor) -> Tensor:
    """Return the preference where it is still needed: p_k = u_k delta_k + 0.2 mean(u).

    The second term is the same for all: a reward that is asked for too loudly pulls harder until it is at its
    target, not beyond.
    """
    return preferences * deficit + _MAINTENANCE * preferences.mean()


@dataclass(frozen=True)
class Weighting:
    """One way to set the rewards' weights at each step.

    Attributes:
        name: Its value in saved workflows.
        summary: Line in the menu.
        rule: The weights; only their proportions count.
        working: The preference that is still at work, from preferences and deficits; the floor of the
            dispersion moves the weights towards it.
        directs: True if the weights change from step to step.
        for_comparison: True if it lost in this pack's benchmark and is offered for comparison only.
    """

    name: str
    summary: str
    rule: Rule
    working: Callable[[Tensor, Tensor], Tensor] = working_preference
    directs: bool = True
    for_comparison: bool = False


def yielding(gramian: Tensor, deficit: Tensor) -> Tensor:
    """Return each reward's gradient, projected so that it pushes back none that lags behind it, `(K, K)`.

    Row k holds T_k g_k = g_k + sum_l lambda_kl g_l in coordinates of all gradients: the nearest vector to g_k with
    g_l . T_k g_k >= 0 for each l that is clearly further from its target than k is; lambda >= 0 on those alone.
    """
    own, least = torch.eye(len(gramian), dtype=gramian.dtype), torch.zeros_like(deficit)
    rows = []
    for k in range(len(gramian)):
        behind = (deficit > deficit[k] + _LEAD) & (gramian.diagonal() > 0)
        rows.append(project(gramian, own[k], behind.nonzero().flatten().tolist(), least))
    return torch.stack(rows)


def directed(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
    """Return weights by progress and direction: no reward's part of the step pushes back one that lags behind it.

    The reward that lags furthest is never projected: progress decides who yields, the gradients decide what.
    (DualProj, arXiv 2406.16232, protects all rewards alike, and so keeps the one that is found last from being
    found.)
    """
    return sum_of_yielding(gramian, working_preference(preferences, deficit), deficit)


def sum_of_yielding(gramian: Tensor, working: Tensor, deficit: Tensor) -> Tensor:
    """Return the weights of d = sum_k p_k T_k g_k, with T of `yielding`: alpha_l = sum_k p_k T_kl, bounded, `(K,)`.

    Args:
        gramian: M, `(K, K)`.
        working: p, the working preferences, `(K,)`.
        deficit: Distance of each reward from its target, `(K,)`; see `deficits`.
    """
    weights = (working[:, None] * yielding(gramian, deficit)).sum(0)
    return weights.clamp(max=_MAX_RATIO * float(working.max()))


def by_deficit(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
    """Return weights by progress alone: the working preferences."""
    return working_preference(preferences, deficit)


def fixed(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
    """Return the user's preferences, unchanged."""
    return preferences.clone()


def dualproj_margin(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
    """DualProj that keeps off the edge: alpha = u + lambda, the nearest to u with g_k . d >= 0.3 u_k |g_k|^2.

    DualProj (arXiv 2406.16232) asks for g_k . d >= 0 and, where rewards conflict, ends exactly there, so that
    noise turns half of the steps against the protected reward. The margin is this pack's own. lambda solves
    min_{lambda >= 0} 1/2 lambda' M lambda + lambda' (M u - m), m_k = 0.3 u_k M_kk, the dual of that projection.
    """
    diagonal = gramian.diagonal()
    faces = (diagonal > 0).nonzero().flatten().tolist()
    return project(gramian, preferences, faces, _MARGIN * preferences * diagonal)


def _torchjd(make: Callable[[Any, Tensor], Any], *, preferred: bool) -> Rule:
    """Return a weighting of torchjd, with the preference as its vector, or multiplied on where it knows none."""

    def rule(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
        from torchjd import aggregation

        # Some draw at random (PCGrad its order): from a generator of their own, the same at every step, so
        # that a run repeats itself and the host's random numbers are left alone.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            weights = make(aggregation, preferences)(gramian)
        return weights if preferred else weights * preferences

    return rule


WEIGHTINGS: dict[str, Weighting] = {
    weighting.name: weighting
    for weighting in (
        Weighting(
            "directed",
            "by deficit; no reward pushes back one that lags behind it (this pack's GDPO)",
            directed,
        ),
        Weighting("by_deficit", "by deficit alone, no projection", by_deficit),
        Weighting("fixed", "the preferences, unchanged", fixed, directs=False),
        Weighting(
            "upgrad",
            "UPGrad, arXiv 2406.16232: no reward is pushed back, symmetric",
            _torchjd(lambda a, u: a.UPGradWeighting(pref_vector=u), preferred=True),
            for_comparison=True,
        ),
        Weighting(
            "dualproj",
            "DualProj, arXiv 2406.16232: nearest direction that pushes no reward back",
            _torchjd(lambda a, u: a.DualProjWeighting(pref_vector=u), preferred=True),
            for_comparison=True,
        ),
        Weighting(
            "mgda",
            "MGDA: the shortest convex combination, then times the preferences",
            _torchjd(lambda a, u: a.MGDAWeighting(), preferred=False),
            for_comparison=True,
        ),
        Weighting(
            "pcgrad",
            "PCGrad, arXiv 2001.06782: pairwise projections, then times the preferences",
            _torchjd(lambda a, u: a.PCGradWeighting(), preferred=False),
            for_comparison=True,
        ),
        Weighting(
            "dualproj_margin",
            "DualProj that leaves each reward at least 30 % of the gain of its own part",
            dualproj_margin,
            for_comparison=True,
        ),
    )
}
