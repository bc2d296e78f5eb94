"""What one backward pass gives is what K backward passes give."""

from __future__ import annotations

import pytest
import torch
from rounding import bound, close
from separate_passes import F64, log_likelihoods, one_pass, separate_passes, terms

from gdpo.policies.policy import trainable
from gdpo.rollouts import sample
from gdpo.update.logprobs import checkpointing
from gdpo.update.reward_gradients import RewardGradients

K = 5


@pytest.mark.parametrize("micro_batch", [8, 3, 1])
@pytest.mark.parametrize("enabled", [False, True])
def test_one_pass_equals_k_separate_passes(training, micro_batch, enabled):
    model, rollouts = training
    advantages = torch.randn(K, 8, generator=torch.Generator().manual_seed(4), dtype=F64)
    weights = torch.tensor([0.5, -1.0, 2.0, 0.1, 0.7], dtype=F64)
    parameters, expected = separate_passes(model, rollouts, advantages / 8)

    gradients = one_pass(
        model, rollouts, weights @ advantages, advantages, micro_batch=micro_batch, enabled=enabled
    )

    assert [id(p) for p in gradients.parameters] == [id(p) for p in parameters]
    for combined, sketch, each in zip(
        gradients.combined, gradients.sketches, expected, strict=True
    ):
        wanted = torch.einsum("k,k...->...", weights, each)
        assert wanted.abs().max() > 1e-5
        close(combined, wanted, terms(model, rollouts))
        # As if the K gradients had been kept.
        close(sketch, gradients.sketch(each), terms(model, rollouts))


def test_squared_norms_are_those_of_each_completion_alone(training):
    model, rollouts = training
    _, each = separate_passes(model, rollouts, torch.eye(8, dtype=F64))
    expected = sum(g.flatten(1).square().sum(1) for g in each)
    gradients = one_pass(model, rollouts, torch.ones(8), torch.ones(1, 8))
    relative = bound(terms(model, rollouts), dtype=F64)
    torch.testing.assert_close(gradients.squared_norms, expected, rtol=relative, atol=0)


def test_the_sketches_inner_products_are_unbiased_and_close(training):
    """Over 64 draws of the signs the mean approaches the exact inner products; one draw is near already."""
    model, rollouts = training
    advantages = torch.randn(3, 8, generator=torch.Generator().manual_seed(6), dtype=F64)
    _, expected = separate_passes(model, rollouts, advantages / 8)
    flat = torch.cat([g.flatten(1) for g in expected], 1).double()
    exact = flat @ flat.T
    lengths = exact.diagonal().sqrt()
    draws = []
    for seed in range(64):
        gradients = RewardGradients(model, torch.ones(8), advantages, seed)
        for sketch, each in zip(gradients.sketches, expected, strict=True):
            sketch.copy_(gradients.sketch(each))
        draws.append(gradients.inner_products())
    errors = (torch.stack(draws) - exact) / (lengths[:, None] * lengths)  # as cosines
    spread = errors.std(0)
    assert float(spread.max()) < 0.2  # the model is tiny: 36 matrices of rank 4
    assert float((errors.mean(0).abs() / (spread / 8)).max()) < 4


def test_weights_from_the_sketches_are_those_from_the_exact_gradients():
    """On the bundled model, with LoRA of rank 16: cosines within 0.05, weights within 0.02 of their sum."""
    from gdpo.objective.gramian import cosines, positive_semidefinite
    from gdpo.objective.weighting import WEIGHTINGS
    from gdpo.policies.loading import load_policy
    from gdpo.prompts import load_prompts
    from gdpo.starter import MODEL_DIR, TRAIN_PROMPTS

    policy = load_policy(MODEL_DIR, precision="fp32", device="cpu")
    with trainable(policy, rank=16, alpha=32, seed=0) as model:
        prompts = load_prompts(TRAIN_PROMPTS)[:2]
        rollouts = sample(
            model, policy.base.tokenizer, prompts, group_size=4, max_new_tokens=16, seed=0
        )
        noise = torch.randn(K, 8, generator=torch.Generator().manual_seed(7))
        advantages = noise - 0.5 * noise.flip(0)  # some agree, some conflict
        exact = [one_pass(model, rollouts, row, advantages).combined for row in advantages]
        sketched = one_pass(model, rollouts, advantages[0], advantages, seed=8).inner_products()
    flat = torch.stack([torch.cat([g.flatten() for g in each]) for each in exact]).double()
    right, ours = (positive_semidefinite(m) for m in (flat @ flat.T, sketched))
    assert float(cosines(right).min()) < -0.2  # there is a conflict to be seen
    assert float((cosines(ours) - cosines(right)).abs().max()) < 0.05
    preferences, deficit = torch.full((K,), 0.2).double(), torch.linspace(1, 0, K).double()
    for weighting in WEIGHTINGS.values():
        found, wanted = (weighting.rule(m, preferences, deficit) for m in (ours, right))
        difference = (found / found.sum() - wanted / wanted.sum()).abs().max()
        assert float(difference) < 0.02, weighting.name


def test_the_sketches_of_k_rewards_are_small(training):
    """K numbers for each column instead of each entry: K / rank of the adapter."""
    model, _ = training
    gradients = RewardGradients(model, torch.ones(8), torch.ones(K, 8), 0)
    adapter = sum(p.numel() for p in gradients.parameters)
    assert sum(s.numel() for s in gradients.sketches) == K * adapter / 4  # rank 4


def test_layers_with_further_dimensions_count_and_flattened_ones_are_refused():
    """Some models give their linears (n, 1, T, d); routed experts run all completions' tokens together."""
    from gdpo.errors import TrainingError

    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.q = torch.nn.ModuleDict({
                "lora_A": torch.nn.ModuleDict({"default": torch.nn.Linear(5, 3, bias=False)})
            })

        @property
        def linear(self):
            return self.q["lora_A"]["default"]

    model, inputs = Holder().double(), torch.randn(4, 1, 6, 5, dtype=F64)
    expected = torch.autograd.grad(model.linear(inputs).square().sum(), model.linear.weight)[0]
    gradients = RewardGradients(model, torch.ones(4), torch.ones(1, 4), 0)
    with gradients.recording():
        gradients.backward(model.linear(inputs).square().sum((1, 2, 3)), torch.arange(4))
        close(4 * gradients.combined[0], expected, 4 * 6 * 5)
        flat = model.linear(inputs.flatten(0, 2)).square().sum()
        with pytest.raises(TrainingError, match=r"shape \(24, 5\) for 4 completions"):
            gradients.backward(flat[None], torch.arange(4))


def test_the_model_is_as_before_after_recording(training):
    model, rollouts = training
    rows = torch.arange(8)
    before = log_likelihoods(model, rollouts, rows)
    gradients = RewardGradients(model, torch.ones(8), torch.ones(1, 8), 0)
    with gradients.recording():
        during = log_likelihoods(model, rollouts, rows)
    after = log_likelihoods(model, rollouts, rows)
    assert torch.equal(before, after)
    close(during, before, terms(model, rollouts))
    after.sum().backward()  # ordinary autograd works again
    assert all(p.grad is not None for p in gradients.parameters)


def test_checkpointing_recomputes_each_layer_in_the_backward_pass(training):
    model, rollouts = training
    calls = []
    layer = model.get_base_model().model.layers[0]
    handle = layer.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    gradients = RewardGradients(model, torch.ones(8), torch.ones(1, 8), 0)
    with checkpointing(model, True), gradients.recording():
        gradients.backward(log_likelihoods(model, rollouts, torch.arange(8)), torch.arange(8))
    handle.remove()
    assert len(calls) == 2
    assert not model.training
