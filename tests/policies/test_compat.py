"""What differs between versions of transformers, by what the installed one does."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from random_models import random_model

from gdpo.policies.compat import (
    cached_layers,
    disable_checkpointing,
    dtype_argument,
    embedding_scale,
    enable_checkpointing,
    full_cache,
    saved_dtype,
    windowed_cache,
)


def test_a_cache_gives_back_what_was_put_into_it():
    cache = full_cache()
    parts = [torch.full((2, 3, 5, 4), float(index)) for index in range(4)]
    cache.update(parts[0], parts[1], 0)
    cache.update(parts[2], parts[3], 1)
    found = cached_layers(cache)
    assert [layer.window for layer in found] == [None, None]
    for layer, keys, values in zip(found, parts[::2], parts[1::2], strict=True):
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)


def test_a_window_of_the_cache_is_what_the_cache_keeps():
    model = random_model("mistral")
    window, ids = model.config.sliding_window, torch.arange(3, 15)[None]
    cache = windowed_cache(model)
    with torch.no_grad():
        model(input_ids=ids, past_key_values=cache, use_cache=True)
        model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True)
    for layer in cached_layers(cache):
        if layer.window is None:
            assert layer.keys.shape[2] == 13
        else:
            assert layer.window == window
            assert layer.keys.shape[2] == window - 1  # the next token itself is in its window


def test_dtype_is_taken_without_a_warning():
    from transformers import AutoModelForCausalLM

    config = random_model("llama").config
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = AutoModelForCausalLM.from_config(config, **dtype_argument(torch.bfloat16))
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"dtype": "bfloat16"}, torch.bfloat16),
        ({"torch_dtype": torch.float16}, torch.float16),
        ({"dtype": None, "torch_dtype": None}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_dtype_of_the_files_is_read_under_both_names(config, expected):
    assert saved_dtype(SimpleNamespace(**config)) == expected


def test_checkpointing_keeps_less_until_it_is_switched_off():
    model = random_model("llama").train().requires_grad_(True)
    before = kept_elements(model)
    enable_checkpointing(model)
    assert kept_elements(model) < before
    disable_checkpointing(model)
    assert kept_elements(model) == before


def kept_elements(model):
    """Elements that a forward pass keeps for the backward pass."""
    kept = 0

    def pack(tensor):
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=torch.arange(3, 11)[None], use_cache=False)
    return kept


@pytest.mark.parametrize("name", ["gemma", "granite", "llama"])
def test_embeddings_are_scaled_as_the_decoder_scales_them(name):
    model = random_model(name)
    decoder, ids, seen = model.get_decoder(), torch.arange(3, 9)[None], []
    handle = decoder.layers[0].register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    with torch.no_grad():
        decoder(input_ids=ids)
        expected = decoder.embed_tokens(ids) * embedding_scale(decoder, model.config)
    handle.remove()
    torch.testing.assert_close(seen[0], expected)
