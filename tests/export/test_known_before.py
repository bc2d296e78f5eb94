"""What the converter refuses is known before the training, and what it only lacks by an older name is given to it."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import make_model, make_tokenizer
from gguf_models import change_json, copied, needs_converter, needs_llama, with_split
from sentence_models import make_gemma

from gdpo.errors import ExportError
from gdpo.export.checks import plan_export
from gdpo.export.pipeline import export_gguf
from gdpo.export.rehearsal import rehearse
from gdpo.export.sentence_pieces import pieces_of
from gdpo.policies.loading import load_policy


def make_gpt2(folder):
    """A random GPT-2 as transformers 5 saves it: without the older name of its context."""
    import transformers

    tokenizer = make_tokenizer()
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256}
    ids = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0}
    config = transformers.GPT2Config(vocab_size=len(tokenizer), **sizes, **ids)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content.pop("n_ctx", None)
    file.write_text(json.dumps(content), encoding="utf-8")
    return folder


MODELS = {"GPT-2 without n_ctx": make_gpt2, "Gemma 2 without tokenizer.model": make_gemma}


@needs_llama
@pytest.mark.parametrize("number", ["", "2", "3"])
def test_vocabularies_without_tokenizer_model_are_read(number, tmp_path):
    policy = load_policy(make_gemma(tmp_path / "model", number), device="cpu")
    rehearse(policy, plan_export(policy, tmp_path / "out", "m", ["F16"]))


@needs_llama
@pytest.mark.parametrize("case", MODELS)
def test_folders_as_newer_versions_save_them_are_exported(case, tmp_path):
    policy = load_policy(MODELS[case](tmp_path / "model"), device="cpu")
    (file,) = export_gguf(policy, tmp_path / "out", "m", types=["F16"])
    assert file.report.holds, file.report.why
    assert "tokenises" not in file.report.why


def refusal(folder, tmp_path) -> str:
    policy = load_policy(folder, device="cpu")
    plan = plan_export(policy, tmp_path / "out", "m", ["F16"])
    with pytest.raises(ExportError) as caught:
        rehearse(policy, plan)
    assert "/gdpo-" not in str(caught.value)  # nobody knows the temporary folder
    return str(caught.value)


@needs_llama
def test_a_split_rule_without_a_name_is_refused_before_anything_is_trained(tmp_path):
    folder = with_split(copied(tmp_path), r"\p{L}+|[^\p{L}]")
    assert "no name for the tokenizer's split rule" in refusal(folder, tmp_path)


@needs_llama
def test_a_vocabulary_that_llama_cpp_reads_otherwise_is_refused(tmp_path):
    folder = make_gemma(tmp_path / "model")
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "Lowercase"}, content["normalizer"]],
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    message = refusal(folder, tmp_path)
    assert message.startswith("llama.cpp would read '<bos>user: Hello!")
    assert str(folder) in message


@needs_llama
def test_a_setting_that_the_converter_wants_is_named(tmp_path):
    folder = shutil.copytree(make_model(tmp_path / "made"), tmp_path / "model")
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["rope_scaling"] = {"rope_type": "longrope", "factor": 2.0}
    content.pop("rope_parameters", None)
    policy = load_policy(folder, device="cpu")
    plan = plan_export(policy, tmp_path / "out", "m", ["F16"])
    file.write_text(json.dumps({**content, "num_hidden_layers": None}), encoding="utf-8")
    with pytest.raises(ExportError, match="Converting to GGUF failed"):
        rehearse(policy, plan)


@needs_llama
def test_a_tensor_without_a_name_is_refused_before_anything_is_trained(tmp_path):
    import transformers

    tokenizer = make_tokenizer()
    config = transformers.BitNetConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=2,
    )
    transformers.BitNetForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    assert "Can not map tensor 'model.layers.0" in refusal(tmp_path / "model", tmp_path)


@needs_converter
def test_a_packing_of_nothing_is_none(tmp_path):
    folder = make_model(tmp_path / "model")
    change_json(folder / "config.json", quantization_config=None)
    policy = load_policy(folder, device="cpu")
    assert plan_export(policy, tmp_path / "out", "m", ["F16"]).source == folder


def test_scores_of_pieces_by_hand():
    merges = [["a", "b"], ["ab", "a"], "b a", ["b", "aba"]]
    words = ["<unk>", "<0x0A>", "a", "b", "ab", "aba", "ba", "<go>", "\u2581\u2581"]
    model = {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>", "merges": merges}
    added = [
        {"id": 7, "content": "<go>", "special": True},
        {"id": 8, "content": "\u2581\u2581", "special": False},
    ]
    vocabulary = {word: number for number, word in enumerate(words)}
    found = pieces_of({"model": {**model, "vocab": vocabulary}, "added_tokens": added}, 10)
    assert found.tokens == [*words[:8], "  ", "[PAD9]"]
    assert found.kinds == [2, 6, 1, 1, 1, 1, 1, 3, 4, 5]
    assert [score for score in found.scores if score > -1e9] == [0.0, -1.0, -2.0]
    assert not found.leading_space
    assert pieces_of({"model": {**model, "byte_fallback": False, "vocab": vocabulary}}, 10) is None
    space = {"type": "Metaspace", "prepend_scheme": "first"}
    whole = {"model": {**model, "vocab": vocabulary}, "pre_tokenizer": space}
    assert pieces_of(whole, 10).leading_space
