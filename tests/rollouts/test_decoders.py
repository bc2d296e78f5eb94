"""Which way through a model is taken, that all of them agree, and that none leaves a trace on the base."""

from __future__ import annotations

import logging

import pytest
import torch
from conftest import make_tokenizer, need_quantised_cpu
from random_models import (
    PROMPTS,
    WRITTEN_OUT,
    adapted,
    random_model,
    randomise,
    recurrent_model,
)
from rounding import bound, path_length, same_scores

from gdpo.errors import PolicyError
from gdpo.policies.policy import trainable
from gdpo.rollouts import decoders as decoders_module, fallback, merged_layers, sample, sampling
from gdpo.rollouts.cache_decoder import CacheDecoder
from gdpo.rollouts.llama_step.blocks import BlockDecoder
from gdpo.rollouts.llama_step.grouping import Grouping, regroup
from gdpo.rollouts.llama_step.own_cache import GrowingCache
from gdpo.rollouts.llama_step.read_layout import OtherShapeError, read_layout
from gdpo.update.logprobs import score_tokens


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture
def decoders(monkeypatch):
    """The class of each decoder that steps."""
    seen = []
    for kind in (BlockDecoder, CacheDecoder):
        advance = kind.advance
        monkeypatch.setattr(
            kind,
            "advance",
            lambda self, tokens, a=advance: (seen.append(type(self)), a(self, tokens)),
        )
    return seen


def agrees_with_a_full_forward(model, found, temperature=1.0):
    scores = score_tokens(model, found, torch.arange(len(found.lengths)), temperature)
    mask = found.completion_mask
    same_scores(scores.logprobs[mask], found.logprobs[mask], model)
    same_scores(scores.entropy[mask], found.entropy[mask], model, "entropy")


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_a_llama_shaped_model_is_decoded_by_the_written_out_step(name, tokenizer, decoders):
    model = random_model(name)
    sample(model, tokenizer, PROMPTS, group_size=2, max_new_tokens=4, seed=0)
    if not sampling.has_cache(model):
        pytest.skip("this transformers has no cache for it that a group can share")
    assert set(decoders) == {BlockDecoder}


@pytest.mark.parametrize("name", ["olmo2", "mixtral"])
def test_other_shapes_go_through_the_models_own_forward(name, tokenizer, decoders):
    with pytest.raises(OtherShapeError):
        read_layout(random_model(name))
    sample(random_model(name), tokenizer, PROMPTS, group_size=2, max_new_tokens=4, seed=0)
    assert set(decoders) == {CacheDecoder}


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_with_an_adapter_greedy_equals_generate_and_logprobs_a_full_forward(name, tokenizer):
    model = adapted(random_model(name))
    found = sample(
        model, tokenizer, PROMPTS, group_size=2, max_new_tokens=20, temperature=0, seed=0
    )
    agrees_with_a_full_forward(model, found)
    with torch.no_grad():
        wanted = model.generate(
            input_ids=found.prompt_ids,
            attention_mask=found.prompt_mask,
            max_new_tokens=20,
            do_sample=False,
            pad_token_id=0,
        )[:, found.prompt_ids.shape[1] :]
    mask = found.completion_mask[:, : wanted.shape[1]]
    assert mask.sum() == found.completion_mask.sum()
    assert torch.equal(found.completion_ids[:, : wanted.shape[1]][mask], wanted[mask])
    found = sample(
        model, tokenizer, PROMPTS, group_size=3, max_new_tokens=20, temperature=0.7, seed=1
    )
    agrees_with_a_full_forward(model, found, temperature=0.7)


def test_a_step_that_computes_something_else_is_not_used(tokenizer, decoders):
    model = random_model("llama")
    mlp = model.model.layers[1].mlp
    plain = mlp.forward
    mlp.forward = lambda x: plain(x) + 0.5  # which its parts do not tell
    found = sample(model, tokenizer, PROMPTS, group_size=2, max_new_tokens=4, seed=0)
    assert set(decoders) == {CacheDecoder}
    agrees_with_a_full_forward(model, found)


def test_both_ways_draw_the_same_completions(tiny_policy, monkeypatch):
    with trainable(tiny_policy, rank=4, alpha=8, seed=0) as model:
        randomise(model)
        draw = lambda: sample(
            model, tiny_policy.base.tokenizer, PROMPTS, group_size=8, max_new_tokens=24, seed=3
        )
        quick = draw()

        def refuse(_model):
            raise OtherShapeError("test")

        monkeypatch.setattr(decoders_module, "read_layout", refuse)
        plain = draw()
    assert torch.equal(quick.completion_ids, plain.completion_ids)
    same_scores(quick.logprobs, plain.logprobs, model)
    same_scores(quick.entropy, plain.entropy, model, "entropy")


def snapshot(model):
    return {name: (id(p), p.clone()) for name, p in model.named_parameters()}


def unchanged(model, before):
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    for name, (identity, value) in before.items():
        assert id(after[name]) == identity
        assert torch.equal(after[name], value)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_base_and_the_adapter_are_bit_identical_afterwards(tiny_policy, error):
    with trainable(tiny_policy, rank=4, alpha=8, seed=0) as model:
        randomise(model)
        before, modules = snapshot(model), [id(m) for m in model.modules()]
        calls = []

        def poll():
            calls.append(1)
            if error is not None and len(calls) == 20:
                raise error

        draw = lambda: sample(
            model, tiny_policy.base.tokenizer, PROMPTS, max_new_tokens=16, seed=0, poll=poll
        )
        if error is None:
            draw()
        else:
            with pytest.raises(error):
                draw()
            assert len(calls) == 20
        unchanged(model, before)
        assert [id(m) for m in model.modules()] == modules


def test_merged_layers_are_the_sum_and_only_inside_the_block(tiny_policy):
    with trainable(tiny_policy, rank=4, alpha=8, seed=0) as model:
        randomise(model)
        ids = torch.arange(12)[None] + 5
        with torch.no_grad():
            wanted = model(ids).logits
            with merged_layers.merged(model):
                assert not [n for n, _ in model.named_parameters() if "lora_" in n]
                same_scores(model(ids).logits, wanted, model)
            with model.disable_adapter():
                base = model(ids).logits
                with merged_layers.merged(model):
                    assert torch.equal(model(ids).logits, base)
        assert (base - wanted).abs().max() > 0.1


def test_a_dora_adapter_is_sampled_as_it_is(tiny_policy):
    targets = ["q_proj", "down_proj"]
    model = adapted(tiny_policy.base.model, target_modules=targets, use_dora=True)
    found = sample(
        model, tiny_policy.base.tokenizer, PROMPTS, group_size=2, max_new_tokens=12, seed=0
    )
    agrees_with_a_full_forward(model, found)


@pytest.mark.parametrize("precision", ["int8", "nf4", "bf16"])
def test_other_precisions_agree_with_a_full_forward_and_keep_their_weights(
    tiny_folder, precision, decoders
):
    from gdpo.policies.loading import load_policy

    if precision != "bf16":
        need_quantised_cpu()
    loaded = load_policy(tiny_folder, precision=precision, device="cpu")
    with trainable(loaded, rank=4, alpha=8, seed=0) as model:
        randomise(model)
        before = {name: (id(p), p.detach().clone()) for name, p in model.named_parameters()}
        found = sample(
            model, loaded.base.tokenizer, PROMPTS, group_size=4, max_new_tokens=16, seed=0
        )
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, before[name][1]), name
        scores = score_tokens(model, found, torch.arange(12), 1.0)
    assert set(decoders) == {BlockDecoder}
    gap = (scores.logprobs - found.logprobs)[found.completion_mask].abs()
    # nf4 computes in fp32 and is exact; int8 rounds activations and bf16 rounds everything, by shape.
    exact = bound(path_length(model), float(scores.logprobs.detach().abs().max()))
    assert gap.mean() < {"int8": 0.05, "nf4": exact, "bf16": 0.1}[precision]


@pytest.mark.parametrize("name", ["mamba", "qwen3_next"])
def test_a_model_with_a_recurrent_state_uses_its_own_generate_and_says_so_once(
    name, tokenizer, caplog
):
    model = recurrent_model(name)
    model.generation_config.repetition_penalty = 3.0  # the policy has none
    settings = model.generation_config
    fallback._told.clear()
    with caplog.at_level(logging.WARNING, "gdpo"):
        draws = [
            sample(model, tokenizer, PROMPTS, group_size=2, max_new_tokens=8, seed=s)
            for s in (0, 0, 1)
        ]
    assert len([r for r in caplog.records if "own `generate`" in r.getMessage()]) == 1
    assert model.generation_config is settings
    assert torch.equal(draws[0].completion_ids, draws[1].completion_ids)
    assert not torch.equal(draws[0].completion_ids, draws[2].completion_ids)
    found = draws[0]
    for row in range(6):
        prompt = found.prompt_ids[row][found.prompt_mask[row].bool()]
        length = int(found.lengths[row])
        ids = torch.cat([prompt, found.completion_ids[row, :length]])
        with torch.no_grad():
            wanted = model(ids[None], use_cache=False).logits[0, -length - 1 : -1].log_softmax(-1)
        wanted = wanted.gather(1, found.completion_ids[row, :length, None])[:, 0]
        same_scores(found.logprobs[row, :length], wanted, model)


def test_the_fallback_can_be_stopped(tokenizer):
    class Stop(Exception):
        pass

    def poll():
        raise Stop

    with pytest.raises(Stop):
        sample(recurrent_model("mamba"), tokenizer, PROMPTS, max_new_tokens=8, seed=0, poll=poll)


def test_results_can_take_part_in_a_training(tiny_policy):
    with trainable(tiny_policy, rank=4, alpha=8, seed=0) as model:
        found = sample(model, tiny_policy.base.tokenizer, PROMPTS, max_new_tokens=6, seed=0)
        tensors = (found.prompt_ids, found.completion_ids, found.completion_mask, found.logprobs)
        assert not any(tensor.is_inference() for tensor in (*tensors, found.entropy))
        score_tokens(model, found, torch.arange(3), 1.0).logprobs.sum().backward()
        assert not any(p.is_inference() for p in model.parameters())


def test_a_cache_of_one_bucket_and_of_several_are_the_same(tiny_policy, monkeypatch):
    base, found = tiny_policy.base, []
    for bucket in (1, 7, 128):
        monkeypatch.setattr(GrowingCache, "_BUCKET", bucket)
        found.append(sample(base.model, base.tokenizer, PROMPTS, max_new_tokens=20, seed=0))
    assert torch.equal(found[0].completion_ids, found[2].completion_ids)
    assert torch.equal(found[1].completion_ids, found[2].completion_ids)


def test_groups_stay_as_large_as_few_idle_slots_allow():
    # Two prompts of four rows; rows 0, 2, 3 and 5 to 7 stay: three of each.
    even, slots = regroup(Grouping(2, 4), torch.tensor([0, 2, 3, 5, 6, 7]))
    assert (even.count, even.size) == (2, 3)
    assert slots.tolist() == [0, 2, 3, 5, 6, 7]
    # 1 and 2 rows: size 2 would idle one slot of four, more than an eighth.
    single, slots = regroup(even, torch.tensor([1, 3, 5]))
    assert (single.count, single.size) == (3, 1)
    assert slots.tolist() == [1, 3, 5]


def test_an_idle_slot_repeats_a_row_of_its_group():
    # 8 and 7 rows: groups of 8 leave one of 16 slots idle, which repeats the last row.
    rows = torch.arange(15)
    grouping, slots = regroup(Grouping(2, 8), rows)
    assert (grouping.count, grouping.size) == (2, 8)
    assert slots.tolist() == [*range(15), 14]
    assert grouping.spread(rows).tolist() == [*range(15), 14]
    assert torch.equal(grouping.gather(grouping.spread(rows)), rows)
    # Rows are counted, not slots: the last of them leaves, and so does what repeats it.
    after, slots = regroup(grouping, torch.arange(14))
    assert slots.tolist() == [*range(14), 13, 13]
    assert torch.equal(after.gather(after.spread(rows[:14])), rows[:14])


def test_groups_that_shrink_unevenly_change_nothing(tiny_policy, monkeypatch):
    base = tiny_policy.base
    monkeypatch.setattr(sampling, "stop_ids", lambda *_: list(range(2, 12)))
    sizes, found = [], []
    for share in (0.05, 2.0):  # drop soon, never drop
        monkeypatch.setattr(sampling, "_DROP_SHARE", share)
        keep = BlockDecoder.keep

        def spy(self, rows, keep=keep):
            keep(self, rows)
            sizes.append((self._grouping.count, self._grouping.size, len(rows)))

        with monkeypatch.context() as patch:
            patch.setattr(BlockDecoder, "keep", spy)
            found.append(
                sample(
                    base.model,
                    base.tokenizer,
                    PROMPTS,
                    group_size=16,
                    max_new_tokens=40,
                    seed=11,
                )
            )
    assert any(count * size > rows for count, size, rows in sizes)  # idle slots
    assert any(count > 3 for count, _, _ in sizes)  # smaller groups
    assert torch.equal(found[0].completion_ids, found[1].completion_ids)
    same_scores(found[0].logprobs, found[1].logprobs, base.model)


def test_running_out_of_memory_says_what_to_lower(tiny_policy):
    def poll():
        raise MemoryError("no room")

    base = tiny_policy.base
    with pytest.raises(PolicyError, match=r"6 completions of up to 7 tokens.*lower `group_size`"):
        sample(
            base.model,
            base.tokenizer,
            PROMPTS,
            group_size=2,
            max_new_tokens=7,
            seed=0,
            poll=poll,
        )
