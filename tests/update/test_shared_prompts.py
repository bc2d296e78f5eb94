"""Prompts that pass once for their group give what prompts that pass with each completion give."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from conftest import make_tokenizer
from random_models import adapted, random_model
from rounding import bound, close, float64_throughout, path_length

from gdpo.prompts import Prompt
from gdpo.rollouts import Rollouts, sample
from gdpo.rollouts.cache_decoder import has_cache
from gdpo.settings import TrainSettings
from gdpo.update import micro_batches as batches
from gdpo.update.logprobs import score_tokens
from gdpo.update.micro_batches import Batch, micro_batches, plan, positions
from gdpo.update.passes import differentiate, log_ratios, plan_update
from gdpo.update.reward_gradients import RewardGradients
from gdpo.update.shared_prompts import SharedPrompts

PROMPTS = [
    Prompt((("user", text),), {})
    for text in (
        "the printer does not print and the screen stays black please",
        "restart the router then check the cable",
        "thank you sorry for the trouble I am happy to help with your order",
    )
]
GROUPS = (5, 1, 3)
N = sum(GROUPS)
F64 = torch.float64
COMBINATION = torch.tensor([1.5, 0.0, -2.0, 0.3, -0.1, 0.7, -0.4, 0.0, 1.1], dtype=F64)
ADVANTAGES = torch.randn(2, N, generator=torch.Generator().manual_seed(5), dtype=F64)
ROWS = torch.arange(N)
SETTINGS = TrainSettings(micro_batch=4, prompts_per_step=3, group_size=3)


def chosen(rollouts: Rollouts, rows: list[int]) -> Rollouts:
    tensors = (
        rollouts.prompt_ids,
        rollouts.prompt_mask,
        rollouts.completion_ids,
        rollouts.completion_mask,
        rollouts.logprobs,
    )
    return Rollouts(*(t[rows] for t in tensors), tuple(rollouts.completions[i] for i in rows))


@pytest.fixture
def exact():
    """Both ways compute the same sums, in another order: float64 shows any other difference."""
    with float64_throughout():
        yield


def terms(model, rollouts: Rollouts) -> int:
    """Number of additions that make an entry of a gradient, forward and back."""
    tokens = int(rollouts.prompt_mask.sum() + rollouts.lengths.sum())
    return 2 * tokens * path_length(model)


def drawn(model, prompts=PROMPTS) -> Rollouts:
    """Groups of 5, 1 and 3 completions of up to 10 tokens."""
    found = sample(model, make_tokenizer(), prompts, group_size=5, max_new_tokens=10, seed=3)
    return chosen(found, [0, 1, 2, 3, 4, 5, 10, 11, 12])


@pytest.fixture
def llama(exact):
    model = adapted(random_model("llama"))
    rollouts = drawn(model)  # in float32, as in a training
    return model.double(), rollouts


def both_ways(model, rollouts, settings=SETTINGS):
    size = settings.micro_batch
    ways = (
        plan(model, rollouts, ROWS, size, 1.0),
        plan(model, rollouts, ROWS, size, 1.0, share=False),
    )
    assert [way[0].owners is not None for way in ways] == [True, False]
    return [
        differentiate(model, rollouts, COMBINATION, ADVANTAGES, settings, lambda: None, batches=way)
        for way in ways
    ]


def same_step(model, rollouts, settings=SETTINGS):
    """Assert that both ways give the same combined gradient, and return their results."""
    shared, plain = both_ways(model, rollouts, settings)
    for found, wanted in zip(shared.gradients.combined, plain.gradients.combined, strict=True):
        close(found, wanted, terms(model, rollouts))
    return shared, plain


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


def some_lengths(lengths: list[int]) -> Rollouts:
    """Completions of these lengths, each after a prompt of two tokens."""
    count, longest = len(lengths), max(lengths)
    prompts = torch.zeros(count, 2, dtype=torch.long)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    none = torch.zeros(count, longest)
    return Rollouts(prompts, prompts + 1, none.long(), mask, none, ())


def test_a_micro_batch_takes_the_tokens_of_two_of_the_longest_by_hand():
    # 2 x (2 + 8) = 20 tokens: the longest with one of 1, padded to 10 each; of the others all three, 3 x 3.
    found = micro_batches(some_lengths([1, 8, 1, 1, 1]), torch.arange(5), 2)
    assert [part.tolist() for part in found] == [[0, 2, 3], [4, 1]]


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_micro_batches_keep_to_their_budget_and_are_never_more(size):
    lengths = torch.randint(1, 60, (41,), generator=torch.Generator().manual_seed(size)).tolist()
    rows = torch.arange(1, 41)
    found = micro_batches(some_lengths(lengths), rows, size)
    assert sorted(torch.cat(found).tolist()) == rows.tolist()
    assert len(found) <= -(-40 // size)
    widths = [2 + max(lengths[i] for i in part) for part in found]
    assert widths == sorted(widths)
    for part, width in zip(found, widths, strict=True):
        assert len(part) * width <= size * (2 + max(lengths[1:]))


# --- when the plain way is kept ----------------------------------------------------------------------


def is_plain(rollouts, way: list[Batch], rows=ROWS, size=4) -> bool:
    wanted = micro_batches(rollouts, rows, size)
    return (
        len(way) == 1
        and way[0].owners is None
        and all(map(torch.equal, way[0].parts, wanted))
        and len(way[0].parts) == len(wanted)
    )


def test_short_prompts_lone_completions_and_checkpointing_keep_the_plain_way(llama, monkeypatch):
    model, rollouts = llama
    ones = torch.tensor([0, 5, 6])  # one completion of each prompt: nothing is saved
    assert is_plain(rollouts, plan(model, rollouts, ones, 4, 1.0), ones)
    checkpointed = replace(SETTINGS, gradient_checkpointing=True)
    assert is_plain(rollouts, plan_update(model, rollouts, checkpointed))
    assert not is_plain(rollouts, plan_update(model, rollouts, SETTINGS))
    cut = replace(
        rollouts, prompt_ids=rollouts.prompt_ids[:, -8:], prompt_mask=rollouts.prompt_mask[:, -8:]
    )
    assert is_plain(cut, plan_update(model, cut, SETTINGS))
    monkeypatch.setattr(batches, "_LEAST_SAVED", 0.95)
    assert is_plain(rollouts, plan_update(model, rollouts, SETTINGS))


def test_lengths_that_differ_much_are_weighed_in(llama):
    """One long completion in each group: with all prompts of a pass together, the short ones are padded to it."""
    model, rollouts = llama
    long = torch.zeros(N, 200, dtype=torch.long)
    mask = torch.arange(200)[None] < torch.tensor([200, 9, 9, 9, 9, 9, 200, 9, 9])[:, None]
    uneven = replace(
        rollouts, completion_ids=long, completion_mask=mask, logprobs=torch.zeros(N, 200)
    )
    ways = [plan(model, uneven, ROWS, 4, 1.0, share=share) for share in (True, False)]
    costs = [sum(positions(uneven, batch) for batch in way) for way in ways]
    assert costs[0] <= costs[1]


def disagreeing(model, change):
    """Its decoder passes otherwise when it is given a cache that is not empty."""
    decoder = model.get_base_model().get_decoder()
    own = decoder.forward

    def forward(*args, past_key_values=None, **options):
        if past_key_values is not None and past_key_values.get_seq_length():
            change(options)
        return own(*args, past_key_values=past_key_values, **options)

    decoder.forward = forward


def shifted(options):
    options["position_ids"] = options["position_ids"] + 3


def refused(_options):
    raise TypeError("no such cache")


@pytest.mark.parametrize("change", [shifted, refused])
def test_a_model_that_computes_something_else_on_a_cache_keeps_the_plain_way(llama, change, caplog):
    model, rollouts = llama
    disagreeing(model, change)
    with caplog.at_level(logging.INFO, "gdpo"):
        for _ in range(2):
            assert is_plain(rollouts, plan_update(model, rollouts, SETTINGS))
    told = [r for r in caplog.records if "prompts are not shared" in r.getMessage()]
    assert len(told) == 1


def test_a_failed_allocation_is_not_a_verdict(llama):
    model, rollouts = llama

    def exhausted(_options):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    disagreeing(model, exhausted)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        plan_update(model, rollouts, SETTINGS)
    assert model.get_base_model() not in batches._verdicts


def test_angles_that_depend_on_the_whole_length_keep_the_plain_way():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(make_tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
        rope_scaling={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
    )
    model = LlamaForCausalLM(config).eval()
    rollouts = drawn(model)
    assert is_plain(rollouts, plan(model, rollouts, ROWS, 4, 1.0))


# --- the passes around it ----------------------------------------------------------------------------


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
