"""A model of which a weight would stay random is refused, whatever its files look like."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from changed_weights import changed
from conftest import make_model, make_tokenizer, need_quantised_cpu
from safetensors.torch import load_file

from gdpo.errors import PolicyError
from gdpo.policies.loading import load_policy

UP = "model.layers.1.mlp.up_proj.weight"
NORM = "model.layers.1.input_layernorm.weight"


@pytest.fixture(scope="module")
def untied(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("untied"), tie_word_embeddings=False)


def renamed(prefix):
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def without(*gone):
    return lambda state: {name: t for name, t in state.items() if name not in gone}


def cut(name):
    return lambda state: {**state, name: state[name][:-1].clone()}


def refusal(folder, precision="fp32"):
    with pytest.raises(PolicyError) as caught:
        load_policy(folder, device="cpu", precision=precision)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(params=["one file", "shards", "nf4"])
def kind(request):
    """How many files there are, and the precision."""
    if request.param == "nf4":
        need_quantised_cpu()
    return {
        "shards": 3 if request.param == "shards" else 1,
        "precision": "nf4" if request.param == "nf4" else "fp32",
    }


@pytest.mark.parametrize(
    "prefix",
    ["_orig_mod.", "module.", "base_model.model.", "module._orig_mod.", "student.net."],
)
def test_a_wrappers_prefix_is_named(untied, tmp_path, kind, prefix):
    folder = changed(untied, tmp_path / "m", renamed(prefix), shards=kind["shards"])
    message = refusal(folder, kind["precision"])
    assert repr(prefix) in message
    assert "save" in message


def test_a_wrapper_in_the_middle_is_named(tiny_folder, tmp_path):
    def inside(state):
        return {name.replace("layers.", "layers._orig_mod."): t for name, t in state.items()}

    assert "'_orig_mod.'" in refusal(changed(tiny_folder, tmp_path / "m", inside))


def test_an_unmerged_adapter_is_named(tiny_folder, tmp_path):
    def inside(state):
        weight = state.pop(UP)
        base = UP.removesuffix(".weight")
        return state | {
            f"{base}.base_layer.weight": weight,
            f"{base}.lora_A.default.weight": torch.ones(4, 64),
            f"{base}.lora_B.default.weight": torch.ones(128, 4),
        }

    assert "merge_and_unload" in refusal(changed(tiny_folder, tmp_path / "m", inside))


def test_a_missing_weight_is_named(tiny_folder, tmp_path, kind):
    folder = changed(tiny_folder, tmp_path / "m", without(UP), shards=kind["shards"])
    message = refusal(folder, kind["precision"])
    assert UP in message
    assert "1 of its weights" in message


def test_of_many_missing_weights_a_few_are_named_and_the_rest_is_counted(tiny_folder, tmp_path):
    def change(state):
        return {name: tensor for name, tensor in state.items() if "layers.1." not in name}

    message = refusal(changed(tiny_folder, tmp_path / "m", change))
    assert "9 of its weights" in message
    assert "6 more" in message


@pytest.mark.parametrize("name", [UP, NORM, "model.embed_tokens.weight"])
def test_a_weight_of_another_shape_is_named(tiny_folder, tmp_path, kind, name):
    folder = changed(tiny_folder, tmp_path / "m", cut(name), shards=kind["shards"])
    assert name in refusal(folder, kind["precision"])


def test_a_missing_head_is_named_where_it_is_not_tied(untied, tmp_path, kind):
    folder = changed(untied, tmp_path / "m", without("lm_head.weight"), shards=kind["shards"])
    assert "lm_head.weight" in refusal(folder, kind["precision"])


def test_a_tied_head_need_not_be_there(tiny_folder, kind):
    assert "lm_head.weight" not in load_file(tiny_folder / "model.safetensors")
    load_policy(tiny_folder, device="cpu", precision=kind["precision"])


@pytest.mark.filterwarnings("ignore")
def test_further_weights_are_told_with_a_warning(tiny_folder, tmp_path, caplog, kind):
    def change(state):
        return state | {"score.weight": torch.ones(3, 64), "vision.patch.weight": torch.ones(8, 8)}

    folder = changed(tiny_folder, tmp_path / "m", change, shards=kind["shards"])
    with caplog.at_level(logging.WARNING, logger="gdpo"):
        load_policy(folder, device="cpu", precision=kind["precision"])
    (record,) = [r for r in caplog.records if r.name.startswith("gdpo") and "score" in r.message]
    assert "2 of the weights" in record.message
    assert "vision.patch.weight" in record.message


def test_files_that_are_mostly_of_something_else_are_refused(tiny_folder, tmp_path):
    def change(state):
        return state | {f"vision.{i}.weight": torch.ones(300, 300) for i in range(4)}

    assert "vision.0.weight" in refusal(changed(tiny_folder, tmp_path / "m", change))


def test_a_configuration_of_fewer_layers_than_the_files_is_refused(tmp_path):
    folder = make_model(tmp_path / "m", num_hidden_layers=6)
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = 1
    config.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    assert "model.layers.1." in refusal(folder)


def experts(folder):
    """Write a tiny model of routed experts; newer versions of transformers fuse them as they load."""
    import transformers as t

    tokenizer = make_tokenizer()
    config = t.MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )
    t.MixtralForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_routed_experts_load_and_a_missing_one_is_refused(tmp_path):
    whole = experts(tmp_path / "whole")
    load_policy(whole, device="cpu")
    for number, gone in enumerate(("w1", "w2", "w3")):
        name = f"model.layers.1.block_sparse_moe.experts.2.{gone}.weight"
        assert name in load_file(whole / "model.safetensors")
        folder = changed(whole, tmp_path / f"{number}", without(name))
        assert "experts" in refusal(folder)
