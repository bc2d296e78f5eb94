"""When prompts are not shared: nothing to save, or a model that computes something else."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from conftest import make_tokenizer
from prompt_groups import (
    ROWS,
    SETTINGS,
    N,
    drawn,
)

from gdpo.update import micro_batches as batches
from gdpo.update.micro_batches import Batch, micro_batches, plan, positions
from gdpo.update.passes import plan_update


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
