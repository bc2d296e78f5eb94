"""Advantages of groups: decoupled, summed, pooled and by pairs."""

from __future__ import annotations

import pytest
import torch
from score_tensors import NAN, rewards_with_gaps

from gdpo.objective import advantages, corr_grpo, gd2po, group_dpo, sa_mrpo


def test_decoupled_by_hand():
    # mean 2, unbiased std sqrt((1 + 0 + 1) / 2) = 1
    rewards = torch.tensor([[[1.0, 2.0, 3.0]]], dtype=torch.float64)
    expected = torch.tensor([[[-1.0, 0.0, 1.0]]], dtype=torch.float64) / 1.0001
    torch.testing.assert_close(advantages.decoupled(rewards), expected)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9, -3.3])
def test_constant_group_gives_zero_advantage(value):
    rewards = torch.full((1, 2, 7), value, dtype=torch.float64)
    scale = torch.ones(1, dtype=torch.float64)
    preferences = torch.ones(1, dtype=torch.float64)
    assert not advantages.decoupled(rewards).any()
    assert not advantages.pooled(rewards, scale).any()
    assert not advantages.summed_then_normalised(rewards, preferences).any()
    assert not gd2po.filtered(rewards, preferences).any()
    assert not corr_grpo.correlation_normalised(rewards, preferences).any()
    assert not sa_mrpo.saturation_aware(rewards, -scale, scale).any()
    assert advantages.dead_groups(rewards).tolist() == [1.0]


def test_unscored_completions_are_left_out_not_taken_for_zero():
    rewards = torch.tensor([[[1.0, 3.0, NAN]]], dtype=torch.float64)
    found = advantages.centred(rewards)
    assert found.tolist() == [[[-1.0, 1.0, 0.0]]]


@pytest.mark.parametrize("seed", range(3))
def test_every_form_has_mean_zero_in_each_group(seed):
    rewards = rewards_with_gaps(seed)
    scale = advantages.update_scale(None, rewards, torch.ones(3, dtype=torch.float64))
    for found in (advantages.decoupled(rewards), advantages.pooled(rewards, scale)):
        torch.testing.assert_close(
            found.sum(-1), torch.zeros(3, 4, dtype=torch.float64), atol=1e-9, rtol=0
        )


def test_grpo_is_the_normalised_sum():
    rewards = rewards_with_gaps(1, share=0.0)
    preferences = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    parts = advantages.summed_then_normalised(rewards, preferences)
    total = torch.einsum("k,kbg->bg", preferences, rewards)
    expected = (total - total.mean(-1, keepdim=True)) / (total.std(-1, keepdim=True) + 1e-4)
    torch.testing.assert_close(torch.einsum("k,kbg->bg", preferences, parts), expected)


def test_one_reward_decoupled_equals_grpo_up_to_one_scalar():
    rewards = rewards_with_gaps(2, shape=(1, 4, 6), share=0.0)
    one = torch.ones(1, dtype=torch.float64)
    decoupled = advantages.decoupled(rewards)[0]
    grpo = advantages.summed_then_normalised(rewards, one)[0]
    whitened = decoupled / advantages.batch_std(decoupled, rewards)
    ratio = whitened / grpo
    torch.testing.assert_close(ratio, torch.full_like(ratio, float(ratio[0, 0])))


def test_pooled_scale_rises_at_once_and_falls_slowly():
    # Two groups of two: squares around the mean 2 * 0.5^2 and 0, one degree of freedom each: sqrt(0.5 / 2) = 0.5
    rewards = torch.tensor([[[0.0, 1.0], [0.3, 0.3]]], dtype=torch.float64)
    ranges = torch.ones(1, dtype=torch.float64)
    scale = advantages.update_scale(None, rewards, ranges)
    assert float(scale) == pytest.approx(0.5)
    saturated = torch.full_like(rewards, 0.9)
    assert float(advantages.update_scale(scale, saturated, ranges)) == pytest.approx(0.99 * 0.5)
    assert float(advantages.update_scale(None, saturated, ranges)) == pytest.approx(1e-3)


def test_pooled_advantages_do_not_depend_on_the_rewards_unit():
    rewards = rewards_with_gaps(4, shape=(1, 4, 6))
    ranges = torch.ones(1, dtype=torch.float64)
    plain = advantages.pooled(rewards, advantages.update_scale(None, rewards, ranges))
    scaled = advantages.pooled(
        100 * rewards, advantages.update_scale(None, 100 * rewards, 100 * ranges)
    )
    torch.testing.assert_close(plain, scaled)


def test_group_dpo_is_minus_the_gradient_of_the_pair_loss():
    generator = torch.Generator().manual_seed(0)
    totals = torch.rand(3, 5, generator=generator, dtype=torch.float64).round(
        decimals=1
    )  # with ties
    ratios = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    beta = 0.1
    pairs = [
        (b, i, j)
        for b in range(3)
        for i in range(5)
        for j in range(5)
        if totals[b, i] > totals[b, j]
    ]
    loss = -sum(
        torch.log(torch.sigmoid(beta * (ratios[b, i] - ratios[b, j]))) for b, i, j in pairs
    ) / len(pairs)
    (expected,) = torch.autograd.grad(loss, ratios)
    torch.testing.assert_close(group_dpo.group_dpo(totals, ratios.detach(), beta), -expected)


def test_an_unscored_reward_counts_as_its_groups_mean_in_sums():
    from gdpo.objective.methods import METHODS, Scores

    # r_1 = (1, 3, -), r_2 = (0, 0, 0): centred sums (-1, 1, 0); std of (-1, 1, 0) is 1
    rewards = torch.tensor([[[1.0, 3.0, NAN]], [[0.0, 0.0, 0.0]]], dtype=torch.float64)
    halves = torch.tensor([0.5, 0.5], dtype=torch.float64)
    parts = advantages.summed_then_normalised(rewards, halves)
    torch.testing.assert_close(
        parts[0, 0] * (0.5 + 1e-4), torch.tensor([-1.0, 1.0, 0.0], dtype=torch.float64)
    )
    # For group_dpo the unscored completion beats the first, loses to the second: three pairs in all.
    ones = torch.ones(2, dtype=torch.float64)
    scores = Scores(rewards, halves, 0 * ones, ones, ones)
    found = METHODS["group_dpo"].combine(scores, halves, parts, torch.zeros(1, 3).double())
    torch.testing.assert_close(found, 0.1 * torch.tensor([[-1.0, 1.0, 0.0]]).double() / 3)


def test_group_dpo_without_any_pair_is_zero():
    assert not group_dpo.group_dpo(torch.ones(2, 3), torch.randn(2, 3), 0.1).any()
