from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gdpo.objective import advantages, corr_grpo, gd2po, group_dpo, sa_mrpo

NAN = math.nan


def rewards_with_gaps(seed: int, shape=(3, 4, 6), share: float = 0.2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(shape, generator=generator, dtype=torch.float64)
    values[torch.rand(shape, generator=generator) < share] = NAN
    return values


def trl_normalize_then_sum(rewards: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """TRL 1.16's formula for one (N, K) batch in groups of G, written out with loops."""
    groups, size, count = rewards.shape
    total = np.full((groups, size), np.nan)
    for b in range(groups):
        for i in range(size):
            parts = []
            for k in range(count):
                column = rewards[b, :, k]
                known = column[~np.isnan(column)]
                std = known.std(ddof=1) if len(known) > 1 else np.nan
                parts.append(
                    weights[k] * (rewards[b, i, k] - known.mean()) / (std + 1e-4)
                    if len(known)
                    else np.nan
                )
            if not np.isnan(rewards[b, i]).all():
                total[b, i] = np.nansum(parts)
    known = total[~np.isnan(total)]
    whitened = (total - known.mean()) / (known.std(ddof=1) + 1e-4)
    return np.nan_to_num(whitened)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_decoupled_equals_trls_normalize_then_sum(seed, share):
    rewards = rewards_with_gaps(seed, share=share)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    combined = torch.einsum("k,kbg->bg", weights, advantages.decoupled(rewards))
    ours = combined / advantages.batch_std(combined, rewards)
    theirs = trl_normalize_then_sum(rewards.permute(1, 2, 0).numpy(), weights.numpy())
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["gdpo_decoupled", "grpo"])
def test_published_methods_give_what_trls_own_trainer_computes(method, tiny_folder, tmp_path):
    """TRL's trainer samples 4 x 4 completions and is given our rewards, gaps and a constant group among them."""
    pytest.importorskip("trl", reason="compares with TRL itself: pip install trl")
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    share = 0.25 if method == "gdpo_decoupled" else 0.0
    rewards = rewards_with_gaps(11, shape=(3, 4, 4), share=share)
    rewards[0, 1] = 0.5  # constant in a group
    if share:
        rewards[:, 2, 1] = NAN  # no reward at all
        rewards[1, 3] = torch.tensor([NAN, 0.3, NAN, NAN])  # one score in a group
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)

    def reward(k):
        def given(completions, **_):
            column = rewards[k].flatten().tolist()
            return [None if math.isnan(value) else value for value in column]

        given.__name__ = f"reward_{k}"
        return given

    arguments = GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=16,
        num_generations=4,
        max_completion_length=4,
        reward_weights=weights.tolist(),
        multi_objective_aggregation=(
            "normalize_then_sum" if method == "gdpo_decoupled" else "sum_then_normalize"
        ),
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
    )
    prompts = [{"prompt": f"question {b}"} for b in range(4)]
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_folder),
        processing_class=AutoTokenizer.from_pretrained(tiny_folder),
        reward_funcs=[reward(k) for k in range(3)],
        args=arguments,
        train_dataset=pytest.importorskip("datasets").Dataset.from_list(prompts),
    )
    batch = [row for row in prompts for _ in range(4)]
    theirs = trainer._generate_and_score_completions(batch)["advantages"].view(4, 4)
    if method == "gdpo_decoupled":
        combined = torch.einsum("k,kbg->bg", weights, advantages.decoupled(rewards))
        ours = combined / advantages.batch_std(combined, rewards)
    else:
        parts = advantages.summed_then_normalised(rewards, weights)
        ours = torch.einsum("k,kbg->bg", weights, parts)
    torch.testing.assert_close(ours.float(), theirs, atol=2e-4, rtol=1e-3)


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
