"""Which GGUF files are no model to train: each is refused by what it is, before anything is made of it."""

from __future__ import annotations

import re
import shutil

import gguf
import pytest
from gguf_models import exported, needs_llama
from gguf_writing import rewritten, whole_file

from gdpo.errors import PolicyError
from gdpo.policies.loading import load_policy
from gdpo.unpacking import folder as unpacking, worker
from gdpo.unpacking.kinds import supported_architectures
from gdpo.unpacking.parts import is_later_part

WORDS = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a", "b"]}
LLAMA = {"general.architecture": "llama", "general.type": "model", **WORDS}
ONE = {"token_embd.weight": (4, 2)}

# Content of the file, and words of the message.
CASES = {
    "text": (b"hello, hello", "it is no GGUF file"),
    "empty": (b"", "in the middle of its header"),
    "projector": ({"general.architecture": "clip", "general.type": "mmproj"}, "reads images"),
    "projector by its architecture": ({"general.architecture": "clip"}, "reads images"),
    "adapter": ({"general.architecture": "llama", "general.type": "adapter"}, "a LoRA adapter"),
    "measurements": ({"general.type": "imatrix"}, "measurements for quantising"),
    "another type": ({"general.type": "sound"}, "of the type 'sound'"),
    "vocabulary": (LLAMA, "a vocabulary without weights"),
    "architecture of the future": (
        {**LLAMA, "general.architecture": "llama9"},
        "'llama9', which .* these it reads: .*llama",
    ),
    "no architecture": (WORDS, "of the architecture ''"),
    "encoder": ({**LLAMA, "general.architecture": "t5"}, "of the architecture 't5'"),
    "no words": ({"general.architecture": "llama"}, "holds no vocabulary"),
    "words that are numbers": ({**LLAMA, "tokenizer.ggml.tokens": 5}, "holds no vocabulary"),
    "words of another kind": ({**LLAMA, "tokenizer.ggml.model": "rwkv"}, "of the kind 'rwkv'"),
    "split by another rule": (
        {**LLAMA, "tokenizer.ggml.pre": "of-tomorrow"},
        "by the rule 'of-tomorrow'",
    ),
    "a thousand million parts": ({**LLAMA, "split.count": 10**9}, "one of 1000000000 parts"),
    "a part that was renamed": ({**LLAMA, "split.count": 2}, "has been renamed"),
}


def refusal(path) -> str:
    with pytest.raises(PolicyError) as caught:
        load_policy(path, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.name) in message
    assert "gdpo-gguf-" not in message  # nobody knows the temporary folder
    return message


@pytest.mark.parametrize("case", CASES)
def test_each_kind_is_refused_by_what_it_is(case, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "run_worker", None)  # nothing is made of it
    content, words = CASES[case]
    tensors = {} if case == "vocabulary" else ONE
    data = content if isinstance(content, bytes) else whole_file(content, tensors)
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    assert re.search(words, refusal(path))


DAMAGES = {
    "a byte short": (lambda data: data[:-33], "is cut off: .* download it again"),
    "half of it": (lambda data: data[: len(data) // 2], "is cut off"),
}


@needs_llama
@pytest.mark.parametrize("case", DAMAGES)
def test_a_file_that_is_cut_off_is_refused(case, tmp_path):
    damage, words = DAMAGES[case]
    path = tmp_path / "x.gguf"
    path.write_bytes(damage(exported().files["Q8_0"].path.read_bytes()))
    assert re.search(words, refusal(path))


def test_tensors_that_share_their_bytes_are_refused(tmp_path):
    data = whole_file(LLAMA, {"a": (8, 8), "b": (8, 8)})
    path = tmp_path / "x.gguf"
    before, _, after = data.rpartition((256).to_bytes(8, "little"))  # the second one's offset
    path.write_bytes(before + bytes(8) + after)
    assert "table of tensors is damaged at 'b'" in refusal(path)


# Keys of a file, and words of the message.
KEYS = {
    "experts in Llama's layers": ({"llama__expert_count": 4}, "sets llama.expert_count"),
    "a key that nobody reads": ({"llama__rope__of_tomorrow": 3}, "sets llama.rope.of_tomorrow"),
}
# What only the worker sees: keys, tensors that are left out, words.
CHANGES = {
    "another scaling": ({"llama__rope__scaling__type": "spiral"}, (), "'spiral'"),
    "part of a head is rotated": ({"llama__rope__dimension_count": 8}, (), "only 8 of 64 numbers"),
    "more layers than there are": ({"llama__block_count": 3}, (), "lacks 9 of the weights"),
    "fewer layers than there are": ({"llama__block_count": 1}, (), "has no place in the model"),
    "wider than it is": ({"llama__embedding_length": 512}, (), "other shapes|only 64 of 128"),
    "a tensor is missing": ({}, ("blk.1.ffn_up.weight",), "lacks 1 of the weights"),
}


@needs_llama
@pytest.mark.parametrize("case", KEYS)
def test_a_key_that_would_not_be_computed_by_is_refused(case, tmp_path):
    changes, words = KEYS[case]
    path = rewritten(exported().files["Q8_0"].path, tmp_path / "x.gguf", **changes)
    assert words in refusal(path)


@needs_llama
@pytest.mark.parametrize("case", CHANGES)
def test_what_would_not_be_computed_by_is_refused(case, tmp_path, monkeypatch):
    monkeypatch.setattr(
        gguf, "GGUFReader", gguf.GGUFReader
    )  # the worker replaces it, in its own process
    changes, drop, words = CHANGES[case]
    path = rewritten(exported().files["Q8_0"].path, tmp_path / "x.gguf", drop=drop, **changes)
    request = {"gguf": str(path), "folder": str(tmp_path), "dtype": "float32"}
    with pytest.raises(ValueError, match=words):
        list(worker.unpack(request))


@needs_llama
def test_what_the_worker_refuses_is_told_with_the_files_name(tmp_path):
    source = exported().files["Q8_0"].path
    path = rewritten(source, tmp_path / "x.gguf", drop=("blk.1.ffn_up.weight",))
    assert "lacks 1 of the weights (model.layers.1.mlp.up_proj.weight)" in refusal(path)


@needs_llama
def test_a_part_that_is_missing_is_named(tmp_path):
    rewritten(exported().files["Q8_0"].path, tmp_path / "m.gguf", tensors=8)
    parts = sorted(tmp_path.iterdir())
    assert [part.name for part in parts] == [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert [is_later_part(part.name) for part in parts] == [False, True, True]
    parts[1].unlink()
    for asked in (parts[0], parts[2]):
        message = refusal(asked)
        assert "one of 3 parts" in message
        assert "m-00002-of-00003.gguf" in message
    shutil.copy(parts[2], parts[1])
    assert "another part than its name says" in refusal_of(parts[0])


def refusal_of(path) -> str:
    with pytest.raises(PolicyError) as caught:
        load_policy(path, device="cpu")
    return str(caught.value)


def test_the_architectures_come_from_transformers_own_table():
    known = supported_architectures()
    assert {"llama", "qwen2", "qwen2moe"} <= set(known)
    assert not {"t5", "general", "tokenizer", "mistral", "clip"} & set(known)
