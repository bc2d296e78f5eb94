r"""The natural step: the least change of the policy, in nats, that brings what the advantages ask for.

With the score u_i = grad log pi(y_i | x_i) of completion i, the sampled Fisher matrix is F = (1/N) \sum_i u_i u_i',
and a step w changes the policy by KL = (1/2) w' F w = (1/2) mean_i (u_i . w)^2 nats a completion, to second order.
The natural gradient (Amari, 1998; Kakade, 2001) of the advantages c,

    w = D U' (G / N + lambda I)^-1 c / N,    G = U D U' (N, N),

is also the ridge regression of c on the scores: u_i . w, the change of log pi(y_i | x_i), comes as near to c_i as the
policy can express ("compatible features", Peters and Schaal, 2008). By the push-through identity only N x N numbers
are solved for (minSR, arXiv 2302.01941). D is the metric of the parameters, in which w is shortest.

The regression goes on from the direction of the step before (SPRING, arXiv 2401.10190):

    w <- mu w + D U' (G / N + lambda I)^-1 (c - mu U w) / N.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# lambda as a share of mean_i |u_i|^2. On development seeds 0.005 did not converge and 0.02 was slower.
DAMPING = 0.01
# mu. With 0.5 and 0.7 a reward that comes late was found later.
MEMORY = 0.3
# Squared scores below this share of their mean count as this much: an untouched matrix has none at first.
_LEAST_SQUARE = 0.01
_TINY = 1e-30

Scores = Sequence[Tensor]  # of each matrix, the N completions' scores: `(N, out, in)`


class NaturalStep(NamedTuple):
    """A direction, and what it does to the policy.

    Attributes:
        direction: w, of each matrix's shape.
        changes: u_i . w, the change of each completion's log-likelihood to first order, in nats, `(N,)`, float64.
        gram: G, `(N, N)`, float64.
    """

    direction: list[Tensor]
    changes: Tensor
    gram: Tensor


def parameter_metric(squares: Sequence[Tensor]) -> list[Tensor]:
    """Return D, one number a parameter: (v + 0.01 mean v)^-1/2, scaled so that the sum of D v is that of v.

    It is Adam's (arXiv 1412.6980) with the scores' squares in place of the gradient's: LoRA's A and B differ much in
    scale, and an entry whose scores are large would otherwise make most of every step.

    Args:
        squares: v, the mean squared score of each parameter, of each matrix's shape.
    """
    total, count = _sum([v.sum() for v in squares]), sum(v.numel() for v in squares)
    least = _LEAST_SQUARE * total / count + _TINY
    metric = [(v + least).rsqrt() for v in squares]
    weighted = _sum([(d * v).sum() for d, v in zip(metric, squares, strict=True)])
    return [d * (total / max(weighted, _TINY)) for d in metric]


def gram_matrix(scores: Scores, metric: Sequence[Tensor]) -> Tensor:
    """Return G = U D U', `(N, N)`, float64, on the CPU."""
    count = len(scores[0])
    total = torch.zeros(count, count, dtype=torch.float64, device=metric[0].device)
    for each, d in zip(scores, metric, strict=True):
        flat = each.to(d).flatten(1)
        total += (flat * d.flatten()) @ flat.T
    return ((total + total.T) / 2).cpu()


def damped(gram: Tensor, damping: float = DAMPING) -> Tensor:
    """Return G / N + lambda I with lambda = 0.01 mean_i |u_i|^2, `(N, N)`."""
    count = len(gram)
    least = damping * gram.diagonal().mean() + _TINY
    return gram / count + least * torch.eye(count, dtype=gram.dtype)


def regress(gram: Tensor, wanted: Tensor) -> Tensor:
    """Return x = (G / N + lambda I)^-1 c / N, one number a completion, `(N,)`.

    Args:
        gram: G, `(N, N)`.
        wanted: c, the wished change of each log-likelihood, in nats, `(N,)`.
    """
    factor = torch.linalg.cholesky(damped(gram))
    return torch.cholesky_solve(wanted[:, None], factor)[:, 0] / len(wanted)


def changes(scores: Scores, direction: Sequence[Tensor]) -> Tensor:
    """Return u_i . w for each completion, `(N,)`, float64, on the CPU."""
    total = torch.zeros(len(scores[0]), dtype=torch.float64, device=direction[0].device)
    for each, w in zip(scores, direction, strict=True):
        total += each.to(w).flatten(1) @ w.flatten()
    return total.cpu()


def natural_step(
    scores: Scores,
    metric: Sequence[Tensor],
    before: Sequence[Tensor] | None,
    wanted: Tensor,
    memory: float = MEMORY,
) -> NaturalStep:
    """Return the natural direction, which goes on from the one before.

    Args:
        scores: U, the scores of the log-likelihoods, of each matrix.
        metric: D, from `parameter_metric`.
        before: Direction of the step before, of each matrix's shape; None at the first.
        wanted: c, `(N,)`, float64, on the CPU.
        memory: mu, the share of the direction before that is kept.
    """
    gram = gram_matrix(scores, metric)
    kept = memory * changes(scores, before) if before else torch.zeros_like(wanted)
    found = regress(gram, wanted - kept)
    shares = found.to(metric[0])
    direction = [
        d * torch.tensordot(shares, each.to(d), dims=1)
        for each, d in zip(scores, metric, strict=True)
    ]
    if before:
        direction = [w.add_(old, alpha=memory) for w, old in zip(direction, before, strict=True)]
    return NaturalStep(direction, kept + gram @ found, gram)


def predicted_kl(moved: Tensor) -> float:
    """Return (1/2) mean_i (u_i . w)^2, the divergence that a step brings, in nats a completion; moved `(N,)`."""
    return 0.5 * float(moved.square().mean())


def _sum(parts: list[Tensor]) -> float:
    """Return the sum of numbers that are on a device, for which is waited once."""
    return sum(torch.stack(parts).tolist())
