"""Prompts that pass once for their group give what prompts that pass with each completion give."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from prompt_groups import (
    ADVANTAGES,
    COMBINATION,
    PROMPTS,
    ROWS,
    SETTINGS,
    N,
    both_ways,
    drawn,
    same_step,
    terms,
)
from random_models import adapted, random_model
from rounding import bound, close, path_length

from gdpo.rollouts.cache_decoder import has_cache
from gdpo.settings import TrainSettings
from gdpo.update import micro_batches as batches
from gdpo.update.logprobs import score_tokens
from gdpo.update.micro_batches import plan, positions
from gdpo.update.passes import differentiate, log_ratios, plan_update
from gdpo.update.reward_gradients import RewardGradients
from gdpo.update.shared_prompts import SharedPrompts


@pytest.mark.parametrize(
    "name",
    [
        *("llama", "llama tied", "qwen2", "qwen2 window", "qwen3", "gemma", "gemma2", "gemma3"),
        *("phi3", "phi3 window", "mistral", "granite"),
    ],
)
def test_the_step_is_that_of_the_plain_way(name, exact):
    model = adapted(random_model(name))
    if not has_cache(model):
        pytest.skip("this transformers has no cache for it that a group can share")
    rollouts = drawn(model)
    shared, plain = same_step(model.double(), rollouts)
    assert len(shared.gradients.combined) > 10
    for wanted in plain.gradients.combined:
        assert wanted.abs().max() > 1e-5
    assert shared.entropy == pytest.approx(plain.entropy)
    assert shared.sampler_gap < bound(path_length(model), float(rollouts.logprobs.abs().max()))


@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_micro_batches_that_split_groups_do_not_change_the_step(llama, size):
    same_step(*llama, replace(SETTINGS, micro_batch=size))


@pytest.mark.parametrize("targets", [["down_proj"], ["q_proj", "v_proj"], ["o_proj"]])
def test_adapters_on_some_layers_only(targets, exact):
    """Below the first layer's keys there may be nothing to train."""
    model = adapted(random_model("llama"), target_modules=targets)
    rollouts = drawn(model)
    same_step(model.double(), rollouts)


def test_scores_are_those_of_the_plain_way(llama):
    model, rollouts = llama
    for batch in plan(model, rollouts, ROWS, 4, 0.7):
        prompts = SharedPrompts(model, rollouts, batch.owners)
        for part in batch.parts:
            found = prompts.score(part, 0.7)
            wanted = score_tokens(model, rollouts, part, 0.7)
            close(found.logprobs, wanted.logprobs, path_length(model))
            close(found.entropy, wanted.entropy, path_length(model))


def test_sketches_and_norms_are_those_of_each_completion_with_its_prompt_given(llama):
    """By autograd, one completion at a time, on keys and values that are constants."""
    model, rollouts = llama
    parameters = [p for p in model.parameters() if p.requires_grad]
    each = []
    for i in range(N):
        owners = torch.full((N,), -1)
        owners[i] = i
        scores = SharedPrompts(model, rollouts, owners).score(torch.tensor([i]), 1.0)
        likelihood = N / rollouts.lengths.sum() * scores.logprobs.sum()
        each.append(torch.autograd.grad(likelihood, parameters))
    norms = torch.stack([sum(g.square().sum() for g in one) for one in each])
    found = both_ways(model, rollouts)[0].gradients
    close(found.squared_norms, norms, terms(model, rollouts))
    for place, sketch in enumerate(found.sketches):
        gradients = torch.stack([one[place] for one in each])
        wanted = torch.einsum("kn,n...->k...", ADVANTAGES / N, gradients)
        close(sketch, found.sketch(wanted), terms(model, rollouts))


def test_each_prompt_passes_once_and_each_completion_without_it(llama):
    model, rollouts = llama
    shapes = []
    embedding = model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    way = plan(model, rollouts, ROWS, 16, 1.0)
    shapes.clear()  # of the comparison
    settings = replace(SETTINGS, micro_batch=16)
    differentiate(model, rollouts, COMBINATION, ADVANTAGES, settings, lambda: None, batches=way)
    handle.remove()
    longest, length = int(rollouts.prompt_mask.sum(1).max()), int(rollouts.lengths.max())
    assert shapes == [(3, longest - 1), (9, length)]
    assert sum(positions(rollouts, batch) for batch in way) == 3 * (longest - 1) + 9 * length


def test_a_plan_holds_each_row_once_and_few_prompts_at_a_time(llama):
    model, rollouts = llama
    for size in (1, 2, 4, 5, 16):
        way = plan(model, rollouts, ROWS, size, 1.0)
        parts = [part for batch in way for part in batch.parts]
        assert sorted(torch.cat(parts).tolist()) == ROWS.tolist()
        assert max(map(len, parts)) <= size
        for batch in way:
            assert len(batch.owners[batch.owners >= 0].unique()) <= max(1, size // 2)
            for part in batch.parts:
                same = rollouts.prompt_ids[part] == rollouts.prompt_ids[batch.owners[part]]
                assert same.all()


def test_log_ratios_of_all_completions_share_prompts_and_are_the_same(llama, monkeypatch):
    model, rollouts = llama
    rollouts = replace(rollouts, logprobs=rollouts.logprobs.double())  # the ratios' type
    shared = []
    score = SharedPrompts.score
    monkeypatch.setattr(
        SharedPrompts, "score", lambda self, *args: (shared.append(1), score(self, *args))[1]
    )
    found = log_ratios(model, rollouts, SETTINGS, 1)
    assert shared
    monkeypatch.setattr(batches, "_SHORTEST_PROMPT", 1000)
    wanted = log_ratios(model, rollouts, SETTINGS, 1)
    close(found, wanted, path_length(model))
    assert wanted.abs().max() > 0.1


class Stop(Exception):
    pass


def test_every_pass_can_be_stopped_and_leaves_the_model_as_it_was(llama):
    """Two layers and the head, forward and back: the prompts' passes poll, too."""
    model, rollouts = llama
    way = plan_update(model, rollouts, replace(SETTINGS, micro_batch=16))
    before = score_tokens(model, rollouts, ROWS, 1.0).logprobs

    def run(poll):
        settings = replace(SETTINGS, micro_batch=16)
        return differentiate(model, rollouts, COMBINATION, ADVANTAGES, settings, poll, batches=way)

    calls = []
    run(lambda: calls.append(1))
    # Forward: 2 layers of the prompts, 2 and the head of the completions; back: these three, and the prompts'
    # second layer, whose inputs are the first that the adapter has touched.
    assert len(calls) >= 5 + 3
    for count in range(1, len(calls) + 1):
        left = iter(range(count - 1))

        def poll(left=left):
            if next(left, None) is None:
                raise Stop

        with pytest.raises(Stop):
            run(poll)
        assert torch.equal(before, score_tokens(model, rollouts, ROWS, 1.0).logprobs)


def test_the_same_seed_gives_the_same_bits(llama):
    first, second = (both_ways(*llama)[0] for _ in range(2))
    for one, other in zip(first.gradients.combined, second.gradients.combined, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(first.gradients.squared_norms, second.gradients.squared_norms)


def test_shared_rows_report_to_the_combined_gradient_only():
    """Hand-worked: x W' with cotangents that have the coefficients in them; N = 4 divides."""

    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.q = torch.nn.ModuleDict({
                "lora_A": torch.nn.ModuleDict({"default": torch.nn.Linear(2, 1, bias=False)})
            })

    model = Holder()
    linear = model.q["lora_A"]["default"]
    gradients = RewardGradients(model, torch.ones(4), torch.ones(1, 4), 0)
    inputs = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])  # one row of two positions
    with gradients.recording():
        outputs = linear(inputs)
        gradients.backward_shared([outputs], [torch.tensor([[[8.0], [-4.0]]])])
    # (8 [1, 2] - 4 [3, 4]) / 4 = [-1, 0]
    assert gradients.combined[0].tolist() == [[-1.0, 0.0]]
    assert gradients.sketches[0].abs().sum() == 0
    assert gradients.squared_norms.tolist() == [0.0] * 4


@pytest.mark.parametrize("method", ["gdpo", "group_dpo"])
def test_a_training_with_shared_prompts_is_the_plain_one_and_repeats_itself(
    tiny_folder, tmp_path, monkeypatch, method
):
    from gdpo.objective.objective import combine_rewards
    from gdpo.policies.loading import load_policy
    from gdpo.rewards import SCORERS, Reward
    from gdpo.training.trainer import train

    names = ("Conciseness", "Politeness")
    rewards = [Reward(name, SCORERS[name]()) for name in names]
    # Not directed by the Gramian, which leaves the prompts' positions out.
    objective = combine_rewards(rewards, method=method, weighting="fixed")
    settings = TrainSettings(
        steps=2,
        prompts_per_step=2,
        group_size=4,
        max_new_tokens=8,
        micro_batch=4,
        lora_rank=4,
        optimizer="sgd",
        eval_every=1000,
        checkpoint_every=1,
        kl_coeff=0.1,
    )

    lengths: list[int] = []

    def run(name, steps=2):
        policy = load_policy(tiny_folder, device="cpu")
        lengths.append(path_length(policy.base.model))
        changed = replace(settings, steps=steps)
        return train(policy, PROMPTS, objective, changed, tmp_path / name).policy.adapter.state

    first = run("first")
    run("second", steps=1)
    second = run("second")  # resumed
    monkeypatch.setattr(batches, "_SHORTEST_PROMPT", 1000)
    plain = run("plain")
    assert any(tensor.abs().max() > 0 for name, tensor in first.items() if "lora_B" in name)
    tokens = 2 * 2 * 4 * (8 + 60)  # of two steps, with their prompts
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name])
        close(tensor, plain[name], tokens * lengths[0])


def test_the_benchmark_of_sharing_measures_both_ways():
    from benchmarks.sharing import run, summary

    comparison = run(1)
    found = summary(comparison.rows)
    # Both ways saw the same completions; the shared one leaves the prompts' positions out.
    assert 0 < found["norms_ratio"] < 1
    assert 0 < found["cosine_rms"] <= found["cosine_max"]
    assert [len(seconds) for seconds in comparison.seconds] == [1, 1]
