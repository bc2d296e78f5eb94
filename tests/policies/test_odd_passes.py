"""Families whose layers or logits are unlike most others': trained where that is right, refused where it is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import transformers
from conftest import make_tokenizer
from random_models import random_model
from small_training import PROMPTS, SETTINGS, objective

from gdpo.errors import PolicyError, TrainingError
from gdpo.export.model_checks import row_lengths
from gdpo.memory import estimation
from gdpo.policies.adapter import decoder_of
from gdpo.policies.base import Base
from gdpo.policies.policy import Policy
from gdpo.policies.targets import find_targets
from gdpo.training.trainer import train
from gdpo.update.own_output import check_output


class Choosing(torch.nn.Linear):
    """A router as Llama 4 has it: it gives its choice beside its output."""

    def forward(self, states):
        outputs = super().forward(states)
        return outputs, outputs.argmax(-1)


class Grouped(torch.nn.Linear):
    """A layer as DeepSeek V4 has it: a part of its matrix for each of two groups of states."""

    def forward(self, groups):
        return torch.einsum("...gi,goi->...go", groups, self.weight.unflatten(0, (2, -1)))


def test_a_layer_that_returns_more_than_a_tensor_gets_no_adapter():
    module = random_model("llama")
    mlp = module.model.layers[0].mlp
    mlp.router = Choosing(32, 4).requires_grad_(False)
    inner = mlp.forward
    mlp.forward = lambda states: inner(states) * mlp.router(states)[0].sum(-1, keepdim=True)
    found = find_targets(module)
    assert "model.layers.0.mlp.up_proj" in found
    assert "model.layers.0.mlp.router" not in found


def test_a_layer_that_splits_its_matrix_among_groups_gets_no_adapter():
    """LoRA would add the product with the whole of it, 8 numbers wide, to outputs of 4 numbers."""
    module = random_model("llama")
    mlp = module.model.layers[0].mlp
    mlp.grouped = Grouped(16, 8, bias=False).requires_grad_(False)
    inner = mlp.forward
    mlp.forward = lambda states: (
        inner(states) * mlp.grouped(states.unflatten(-1, (2, 16))).sum((-2, -1))[..., None]
    )
    assert "model.layers.0.mlp.grouped" not in find_targets(module)


def test_embeddings_may_be_scaled_in_place():
    """As CTRL does it, which a leaf of the gradients would not bear."""
    module = random_model("llama")
    plain = find_targets(module)
    first = module.model.layers[0]
    first.register_forward_pre_hook(lambda _module, inputs: (inputs[0].mul_(2.0), *inputs[1:]))
    assert find_targets(module) == plain


def test_the_decoder_is_neither_the_whole_model_nor_its_output_layer():
    decoder, head = object(), object()
    for answer in ("whole", "head", "decoder"):
        model = SimpleNamespace(model=decoder, get_output_embeddings=lambda: head)
        given = {"whole": model, "head": head, "decoder": decoder}[answer]
        model.get_decoder = lambda given=given: given
        assert decoder_of(model) is decoder


def changed(kind: str):
    """A model that does something of its own around its output layer."""
    module = random_model("llama")
    inner = module.forward

    def forward(*args, **options):
        output = inner(*args, **options)
        if kind == "cap":
            output.logits = 30.0 * torch.tanh(output.logits / 30.0)
        elif kind == "scale":
            output.logits = output.logits * 0.5
        return output

    if kind == "states":
        module.lm_head.register_forward_pre_hook(lambda _module, inputs: (inputs[0] / 2,))
    module.forward = forward
    return module


@pytest.mark.parametrize("kind", ["cap", "scale", "states"])
def test_logits_of_another_form_are_refused_before_the_first_step(kind, tmp_path):
    base = Base(changed(kind), make_tokenizer(), "random", "fp32", "cpu", "digest")
    with pytest.raises(TrainingError, match="'llama' models make their logits in a way"):
        train(Policy(base, None), PROMPTS, objective(), SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run" / "history.jsonl").exists()


@pytest.mark.parametrize("name", ["llama", "llama tied", "gemma2", "granite", "qwen3"])
def test_scales_and_caps_that_are_known_pass(name):
    check_output(random_model(name))
    check_output(random_model(name).to(torch.bfloat16))


def test_heads_that_are_wider_in_some_layers_are_read_layer_by_layer():
    if not hasattr(transformers, "Gemma4TextConfig"):
        pytest.skip(f"transformers {transformers.__version__} knows no such model")
    config = transformers.Gemma4TextConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        global_head_dim=32,
        layer_types=["sliding_attention", "full_attention"],
    )
    assert row_lengths(config) == {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads * head_dim": 64,
        "num_attention_heads * head_dim of layer 1": 128,
    }


def test_a_model_that_asserts_in_sampling_is_refused_in_one_line(tmp_path):
    """As Reformer asserts that it trains; one that only its cached pass fails would be found in the first step."""
    module = random_model("llama")
    inner = module.model.forward

    def forward(*args, use_cache=None, **options):
        assert not use_cache, "no cache\nhere"
        return inner(*args, use_cache=use_cache, **options)

    module.model.forward = forward
    base = Base(module, make_tokenizer(), "random", "fp32", "cpu", "digest")
    with pytest.raises(TrainingError, match="AssertionError: no cache here") as caught:
        train(Policy(base, None), PROMPTS, objective(), SETTINGS, tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_model_that_asserts_has_no_memory_estimate(monkeypatch):
    config = random_model("llama").config

    def fails(*_args):
        raise AssertionError("not without weights")

    monkeypatch.setattr(estimation, "build", fails)
    with pytest.raises(PolicyError, match=r"cannot be told in advance \(AssertionError"):
        estimation.estimate(
            config, SETTINGS, rewards=1, precision="fp32", device="cpu", prompt_tokens=4
        )
