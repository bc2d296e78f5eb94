from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from gdpo.objective import gramian
from gdpo.objective.dispersion import dispersion

F64 = torch.float64


def test_debiasing_removes_what_independent_samples_add():
    """Scores s_i ~ N(m, I) in 400 dimensions; true products of the reward gradients are known.

    With A_ki independent of the noise of s_i apart from the mean part, E[s_i . s_j] = |m|^2 for i != j,
    while |s_i|^2 = |m|^2 + 400: the raw product is dominated by the 400, the corrected one is not.
    """
    generator = torch.Generator().manual_seed(0)
    raws, corrected = [], []
    for _ in range(200):
        scores = 0.5 / 20 + torch.randn(64, 400, generator=generator, dtype=F64)  # |m|^2 = 0.25
        advantages = torch.randn(2, 64, generator=generator, dtype=F64)
        advantages[1] = 0.5 * advantages[0] + 0.5 * advantages[1]  # correlated advantages
        gradients = advantages @ scores / 64
        raw = gradients @ gradients.T
        raws.append(raw)
        corrected.append(gramian.debiased(raw, advantages, scores.square().sum(1)))
    # E[A_0 A_1] = 0.5, so the raw product expects 0.5 * 400 / 64 = 3.1 although the true one is 0 up to
    # 0.25 E[A]^2 terms, E[A] being 0.
    raw, right = (torch.stack(found)[:, 0, 1] for found in (raws, corrected))
    error = [float(found.std()) / math.sqrt(200) for found in (raw, right)]  # of the means
    assert float(raw.mean()) == pytest.approx(0.5 * 400 / 64, abs=4 * error[0])
    assert abs(float(right.mean())) < 4 * error[1] < 0.5


def test_debiasing_by_hand():
    # N = 2, A = (1, -1), s_1 . s_2 = 3, |s|^2 = (4, 9): g = (s_1 - s_2) / 2, |g|^2 = (4 + 9 - 6) / 4 = 7/4.
    # Self term (4 + 9) / 4; difference -6/4, times N / (N - 1) = 2: -3 = A_1 A_2 s_1 . s_2.
    raw = torch.tensor([[7 / 4]], dtype=F64)
    advantages, norms = torch.tensor([[1.0, -1.0]], dtype=F64), torch.tensor([4.0, 9.0], dtype=F64)
    assert float(gramian.debiased(raw, advantages, norms)) == pytest.approx(-3.0)


def test_nearest_gramian_is_positive_semidefinite():
    for size, scale in product([1, 2, 5], [0.0, 1e-20, 1.0, 1e12]):
        generator = torch.Generator().manual_seed(size)
        found = gramian.positive_semidefinite(
            scale * torch.randn(size, size, generator=generator, dtype=F64)
        )
        torch.testing.assert_close(found, found.T)
        assert float(torch.linalg.eigvalsh(found).min()) >= -1e-12 * max(scale, 1e-300), (
            size,
            scale,
        )


def test_cosine_by_hand():
    # g_1 = (1, 0), g_2 = (-1, sqrt 3): cos = -1 / 2
    matrix = torch.tensor([[1.0, -1.0], [-1.0, 4.0]], dtype=F64)
    assert float(gramian.cosines(matrix)[0, 1]) == pytest.approx(-0.5)


def test_a_vanishing_gradient_has_cosine_zero():
    matrix = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=F64)
    assert float(gramian.cosines(matrix)[0, 1]) == 0.0


@pytest.mark.parametrize(
    ("cosine", "count", "expected"),
    [
        (0.0, 2, 1.0),
        (0.95, 2, 0.56),
        (0.7, 2, 0.76),
        (0.5, 2, 0.88),
        (0.7, 5, 0.48),
        (0.3, 5, 0.86),
    ],
)
def test_dispersion_of_equal_cosines(cosine, count, expected):
    # eigenvalue shares (1 + (K - 1) c) / K once and (1 - c) / K else; exp of their entropy, over K
    matrix = torch.full((count, count), cosine, dtype=F64).fill_diagonal_(1.0)
    assert dispersion(torch.ones(count, dtype=F64), matrix) == pytest.approx(expected, abs=0.01)


def test_dispersion_of_one_dominating_reward_is_one_over_k():
    weights = torch.tensor([1.0, 0.0, 0.0], dtype=F64)
    assert dispersion(weights, torch.eye(3, dtype=F64)) == pytest.approx(1 / 3)
