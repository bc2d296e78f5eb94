"""The published methods: hand-worked numbers, and their formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from score_tensors import NAN, rewards_with_gaps

from gdpo.objective import advantages, corr_grpo, gd2po, sa_mrpo


def test_gd2po_by_hand():
    # z-scores (std 1 in both): A_1 = (-1, 0, 1), A_2 = (1, -1, 0), each over 1.0001. The first completion's cancel
    # (0 / 2 < 0.8) and it is dropped; the others have one sign each. Kept share 2/3.
    rewards = torch.tensor([[[0.0, 1.0, 2.0]], [[2.0, 0.0, 1.0]]], dtype=torch.float64)
    halves = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert gd2po.agreeing(rewards, halves).tolist() == [[False, True, True]]
    parts = gd2po.filtered(rewards, halves)
    expected = torch.tensor([[[0.0, 0.0, 2 / 3]], [[0.0, -2 / 3, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(parts, expected / 1.0001)
    # Sums (-, -1/3, 1/3) / 1.0001: mean 0 over the kept, std sqrt(2 / 9) / 1.0001.
    combined = torch.einsum("k,kbg->bg", halves, parts)
    found = gd2po.whitened(combined, gd2po.agreeing(rewards, halves))
    value = (1 / 3 / 1.0001) / (math.sqrt(2 / 9) / 1.0001 + 1e-4)
    torch.testing.assert_close(found, torch.tensor([[0.0, -value, value]], dtype=torch.float64))


def test_gd2po_keeps_a_completion_whose_rewards_nearly_agree():
    # Two completions: every z-score is +-0.7071. Weights (1, 1, w) and signs (+, +, -) leave (2 - w) / (2 + w)
    # of the sum: 0.818 for w = 0.2, kept; 0.739 for w = 0.3, dropped.
    rewards = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]], [[1.0, 0.0]]], dtype=torch.float64)
    for third, kept in ((0.2, True), (0.3, False), (0.0, True)):
        preferences = torch.tensor([1.0, 1.0, third], dtype=torch.float64)
        assert gd2po.agreeing(rewards, preferences).tolist() == [[kept, kept]]


def gd2po_with_loops(rewards: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """GD2PO's SNR rule for rewards (B, G, K) without gaps, written out completion by completion."""
    groups, size, count = rewards.shape
    total, keep = np.zeros((groups, size)), np.ones((groups, size), dtype=bool)
    for b in range(groups):
        for i in range(size):
            parts = [
                weights[k]
                * (rewards[b, i, k] - rewards[b, :, k].mean())
                / (rewards[b, :, k].std(ddof=1) + 1e-4)
                for k in range(count)
            ]
            conflict = max(parts) > 0 > min(parts)
            keep[b, i] = not (conflict and abs(sum(parts)) / sum(map(abs, parts)) < 0.8)
            total[b, i] = sum(parts)
        total[b] *= keep[b].mean()
    mean, std = total[keep].mean(), total[keep].std(ddof=1)
    return np.where(keep, (total - mean) / (std + 1e-4), 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_gd2po_equals_its_formula_written_out(seed):
    rewards = rewards_with_gaps(seed, shape=(3, 6, 8), share=0.0)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    kept = gd2po.agreeing(rewards, weights)
    assert 0 < kept.sum() < kept.numel()
    combined = torch.einsum("k,kbg->bg", weights, gd2po.filtered(rewards, weights))
    ours = gd2po.whitened(combined, kept)
    theirs = gd2po_with_loops(rewards.permute(1, 2, 0).numpy(), weights.numpy())
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-9)


def test_gd2po_leaves_unscored_completions_out():
    # The third has no score at all: it is neither kept nor counted, so the kept share is 2 of 2.
    rewards = torch.tensor([[[0.0, 1.0, NAN]], [[0.0, 1.0, NAN]]], dtype=torch.float64)
    halves = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert gd2po.agreeing(rewards, halves).tolist() == [[True, True, False]]
    torch.testing.assert_close(gd2po.filtered(rewards, halves), advantages.decoupled(rewards))


def test_gd2po_without_anything_left_does_nothing():
    rewards = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]], dtype=torch.float64)
    halves = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert not gd2po.filtered(rewards, halves).any()
    kept = gd2po.agreeing(rewards, halves)
    assert not gd2po.whitened(torch.ones(1, 2, dtype=torch.float64), kept).any()


def test_corr_grpo_by_hand():
    # r_1 and r_2 are uncorrelated, r_3 is constant: the correlations sum to 1 + 1 + 0 = 2.
    rewards = torch.tensor(
        [[[0.0, 0.0, 1.0, 1.0]], [[0.0, 1.0, 0.0, 1.0]], [[5.0, 5.0, 5.0, 5.0]]],
        dtype=torch.float64,
    )
    weights = torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)
    parts = corr_grpo.correlation_normalised(rewards, weights)
    found = torch.einsum("k,kbg->bg", weights, parts)
    expected = torch.tensor([[-0.25, 0.0, 0.0, 0.25]], dtype=torch.float64) / math.sqrt(2 + 1e-6)
    torch.testing.assert_close(found, expected)
    # Twice the same reward: all four correlations are 1, the root is 2.
    same = corr_grpo.correlation_normalised(rewards[:1].repeat(2, 1, 1), weights[:2])
    torch.testing.assert_close(same[0, 0, 3] * math.sqrt(4 + 1e-6), torch.tensor(0.5).double())


def test_corr_grpo_gives_the_published_examples_multiplier():
    # The authors' example: four completions, correlations 0.9756, 0.1098, 0.1098, the third reward's scale nine
    # times the others': GRPO's multiplier is 0.2536, CorrGRPO's 1 / sqrt(3 + 2 * 1.1952) = 0.4307.
    high, low = 0.9756, 0.1098
    correlations = torch.tensor(
        [[1, high, low], [high, 1, low], [low, low, 1]], dtype=torch.float64
    )
    basis = torch.linalg.qr(
        torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]).T.double()
    )[0]
    # Rows of the Cholesky factor in a basis of the vectors of mean 0 have these correlations.
    rows = torch.linalg.cholesky(correlations) @ basis[:, 1:].T
    scales = torch.tensor([1.0, 1.0, 9.0], dtype=torch.float64)[:, None]
    # GRPO's total has the variance s^2 (83 + 2 * 0.9756 + 18 * 2 * 0.1098) = 1 / 0.2536^2, which fixes s.
    unit = math.sqrt(1 / 0.2536**2 / (83 + 2 * high + 36 * low))
    rewards = (unit * scales * rows * math.sqrt(3))[:, None]  # std with 4 - 1 degrees of freedom
    ones = torch.ones(3, dtype=torch.float64)
    assert 1 / float(rewards.sum(0).std()) == pytest.approx(0.2536)
    parts = corr_grpo.correlation_normalised(rewards, ones)
    multiplier = parts / advantages.centred(rewards)
    torch.testing.assert_close(multiplier, torch.full_like(multiplier, 0.4307), atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_corr_grpo_equals_its_formula_with_numpys_correlations(seed):
    rewards = rewards_with_gaps(seed, shape=(4, 3, 8), share=0.0)
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    parts = corr_grpo.correlation_normalised(rewards, weights)
    found = torch.einsum("k,kbg->bg", weights, parts).numpy()
    for b in range(3):
        weighted = weights.numpy()[:, None] * rewards[:, b].numpy()
        centred = weighted.sum(0) - weighted.sum(0).mean()
        expected = centred / np.sqrt(np.corrcoef(weighted).sum() + 1e-6)
        np.testing.assert_allclose(found[b], expected, atol=1e-9)


def test_corr_grpo_does_not_let_a_rewards_unit_set_the_step():
    rewards = rewards_with_gaps(3, share=0.0)
    thirds = torch.full((3,), 1 / 3, dtype=torch.float64)
    scaled = rewards * torch.tensor([1.0, 1.0, 100.0], dtype=torch.float64)[:, None, None]
    plain = corr_grpo.correlation_normalised(rewards, thirds)
    torch.testing.assert_close(corr_grpo.correlation_normalised(scaled, thirds)[:2], plain[:2])


def test_a_reward_with_preference_zero_does_not_change_corr_grpo():
    rewards = rewards_with_gaps(6)
    weights = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    three = corr_grpo.correlation_normalised(rewards, weights)
    torch.testing.assert_close(
        three[:2], corr_grpo.correlation_normalised(rewards[:2], weights[:2])
    )


def test_saturation_aware_by_hand():
    # Batch means 0.9 of [0, 1], 0.25 of [0, 1] and 0 of [-1, 1]: s = 0.9, 0.25, 0.5; (1 - s)^0.5 = 0.3162, 0.8660,
    # 0.7071.
    rewards = torch.tensor(
        [[[0.8, 1.0], [0.8, 1.0]], [[0.0, 0.5], [0.5, 0.0]], [[-0.5, 0.5], [NAN, 0.0]]],
        dtype=torch.float64,
    )
    lows = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    ranges = torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64)
    expected = torch.tensor([0.9, 0.25, 0.5], dtype=torch.float64)
    torch.testing.assert_close(sa_mrpo.saturations(rewards, lows, ranges), expected)
    room = torch.tensor([0.1**0.5, 0.75**0.5, 0.5**0.5], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(
        sa_mrpo.saturation_aware(rewards, lows, ranges), room * advantages.decoupled(rewards)
    )


def test_saturation_can_turn_an_update_round():
    # Completion 0 is better by the saturated reward (mean 0.99), worse by the other (mean 0.5): under published
    # GDPO with weights 0.6 and 0.4 it gains, with the saturations 0.1 * 0.6 < 0.7071 * 0.4 it loses.
    rewards = torch.tensor([[[1.0, 0.98]], [[0.0, 1.0]]], dtype=torch.float64)
    weights = torch.tensor([0.6, 0.4], dtype=torch.float64)
    ones, zeros = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    published = torch.einsum("k,kbg->bg", weights, advantages.decoupled(rewards))
    aware = torch.einsum("k,kbg->bg", weights, sa_mrpo.saturation_aware(rewards, zeros, ones))
    assert published[0, 0] > 0 > aware[0, 0]


def test_a_reward_that_never_scored_does_not_spoil_the_published_methods():
    rewards = rewards_with_gaps(7)
    rewards[2] = NAN
    thirds = torch.full((3,), 1 / 3, dtype=torch.float64)
    ones, zeros = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for found in (
        gd2po.filtered(rewards, thirds),
        corr_grpo.correlation_normalised(rewards, thirds),
        sa_mrpo.saturation_aware(rewards, zeros, ones),
    ):
        assert found.isfinite().all()
        assert not found[2].any()
        assert found[0].any()
