"""What is no model to train is refused with the remedy for what it is."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from changed_weights import changed
from conftest import TEXT, make_model

from gdpo.errors import PolicyError
from gdpo.policies.loading import load_policy
from gdpo.policies.remedies import because

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


def change(file, **entries):
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **entries}))


def pointer(name):
    return lambda folder: (folder / name).write_text(POINTER)


def quantised(method):
    packing = {"quant_method": method, "bits": 4, "group_size": 128}
    return lambda folder: change(folder / "config.json", quantization_config=packing)


def adapter(folder):
    for file in folder.iterdir():
        file.unlink()
    change(folder / "adapter_config.json", base_model_name_or_path="org/base", peft_type="LORA")
    (folder / "adapter_model.safetensors").write_bytes(b"")


def only(*names):
    def keep(folder):
        for file in folder.iterdir():
            file.unlink()
        for name in names:
            (folder / name).write_bytes(b"{}" if name.endswith(".json") else b"GGUF")

    return keep


def weights_as(name):
    return lambda folder: (folder / "model.safetensors").rename(folder / name)


def stored_as(kind, **scales):
    """The matrices in another type of numbers, as some programs store them without a word in config.json."""

    def damage(folder):
        import torch
        from safetensors.torch import load_file, save_file

        file, number = folder / "model.safetensors", getattr(torch, kind)
        weights = {
            name: weight.to(number) if "proj" in name else weight
            for name, weight in load_file(file).items()
        }
        scaled = {
            f"{name}_{end}": torch.ones(1) for end in scales for name in weights if "proj" in name
        }
        save_file(weights | scaled, file, metadata={"format": "pt"})

    return damage


CASES = {
    "8-bit floats": (stored_as("float8_e4m3fn"), ["of the type F8_E4M3", "full precision"]),
    "other 8-bit floats": (stored_as("float8_e5m2"), ["of the type F8_E5M2", "full precision"]),
    "8-bit floats and scales": (stored_as("float8_e4m3fn", scale=1), ["F8_E4M3", "full precision"]),
    "8-bit numbers": (stored_as("int8"), ["of the type I8", "full precision"]),
    "packed bytes": (stored_as("uint8", scale_inv=1), ["of the type U8", "full precision"]),
    "fp8": (quantised("fp8"), ["quant_method 'fp8'", "full-precision model"]),
    "mxfp4": (quantised("mxfp4"), ["quant_method 'mxfp4'", "full-precision model"]),
    "compressed-tensors": (quantised("compressed-tensors"), ["quantised by", "full precision"]),
    "gptq": (quantised("gptq"), ["quantised by 'gptq'", "full precision"]),
    "awq": (quantised("awq"), ["quantised by 'awq'", "full precision"]),
    "weights are a pointer": (pointer("model.safetensors"), ["Git LFS", "git lfs pull"]),
    "tokenizer is a pointer": (pointer("tokenizer.json"), ["tokenizer.json'", "git lfs pull"]),
    "configuration is a pointer": (pointer("config.json"), ["Git LFS", "git lfs pull"]),
    "adapter": (adapter, ["adapter", "'org/base'"]),
    "gguf": (only("model-Q8_0.gguf"), ["GGUF", "'model-Q8_0.gguf'"]),
    "gguf with a configuration": (
        only("config.json", "a.gguf"),
        ["GGUF", "choose the file itself ('a.gguf')"],
    ),
    "pickles": (weights_as("pytorch_model.bin"), ["'pytorch_model.bin'", "safetensors version"]),
    "pickles by an older name": (weights_as("consolidated.00.pth"), ["pickles", "save_pretrained"]),
    "no weights": (only("config.json"), ["finish the download"]),
    "nothing": (only(), ["config.json"]),
}


def refusal(source) -> str:
    with pytest.raises(PolicyError) as caught:
        load_policy(source, device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_each_kind_has_its_own_remedy(tiny_folder, tmp_path, case):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    damage, words = CASES[case]
    damage(folder)
    message = refusal(folder)
    for word in words:
        assert any(one in message for one in word.split("|")), message


@pytest.mark.parametrize(
    ("name", "word"), [("m.gguf", "in the middle of its header"), ("m.safetensors", "folder")]
)
def test_a_file_is_no_folder(tmp_path, name, word):
    (tmp_path / name).write_bytes(b"GGUF")
    assert word in refusal(tmp_path / name)
    assert word in refusal(str(tmp_path / name))


def test_a_missing_shard_is_named(tiny_folder, tmp_path):
    folder = changed(tiny_folder, tmp_path / "m", dict, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    message = refusal(folder)
    assert "1 of the 3 files" in message
    assert "model-00002-of-00003" in message


def test_the_shards_of_a_whole_model_are_all_there(tiny_folder, tmp_path):
    load_policy(changed(tiny_folder, tmp_path / "m", dict, shards=3), device="cpu")


def sentencepiece_model(folder):
    """A model whose tokenizer is there as tokenizer.model alone."""
    spm = pytest.importorskip("sentencepiece")
    make_model(folder, vocab_size=400, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)
    (folder / "text.txt").write_text("\n".join([TEXT] * 20))
    spm.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=100,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="LlamaTokenizer",
        bos_token="<s>",
        eos_token="</s>",
    )
    return folder


def has_protobuf() -> bool:
    try:
        return find_spec("google.protobuf") is not None
    except ModuleNotFoundError:
        return False


def test_a_tokenizer_as_sentencepiece_file_works_or_names_what_reads_it(tmp_path):
    folder = sentencepiece_model(tmp_path / "m")
    if has_protobuf():
        tokenizer = load_policy(folder, device="cpu").base.tokenizer
        assert tokenizer.decode(tokenizer("the printer")["input_ids"]).endswith("the printer")
    else:
        message = refusal(folder)
        assert "pip install protobuf" in message
        assert "tiktoken" not in message


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_a_missing_package_is_not_blamed_on_the_folder(tmp_path, name):
    from transformers.utils import requires_backends

    if find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(ImportError) as caught:
        requires_backends("SomeModel", [name])
    text = because(f"ImportError: {caught.value}", tmp_path, "get the model's original file")
    assert f"pip install {name}" in text.replace("`", "")
    assert "original file" not in text


def test_a_package_in_a_strangers_text_is_not_recommended(tmp_path):
    text = because("ValueError: pip install evil-package", tmp_path, "get the original file")
    assert text.endswith("; get the original file")


def test_an_unknown_architecture_and_one_that_writes_nothing_are_told(tmp_path, tiny_folder):
    for kind, word in (("from-the-future", "update transformers"), ("vit", "writes text")):
        folder = shutil.copytree(tiny_folder, tmp_path / kind)
        change(folder / "config.json", model_type=kind, architectures=None)
        assert word in refusal(folder)


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory")]
)
def test_a_lack_of_memory_is_not_blamed_on_the_folder(tiny_folder, monkeypatch, error):
    import transformers

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    message = refusal(tiny_folder)
    assert "free memory of 'cpu' in fp32" in message
    assert "complete" not in message


# Of Gemma 3n, Qwen 2, MiniMax, Qwen 2 MoE and LongCat: sizes and places, with the words of counts in their names.
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vocab_size_per_layer_input", 262_144),
        ("max_window_layers", 62),
        ("block_size", 256),
        ("shared_expert_intermediate_size", 5632),
        ("expert_ffn_hidden_size", 200_000),
        ("num_nextn_predict_layers", 500),
        ("no_rope_layer_interval", 400),
    ],
)
def test_a_size_is_not_taken_for_a_number_of_layers_or_experts(tiny_folder, tmp_path, name, value):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    change(folder / "config.json", **{name: value})
    assert load_policy(folder, device="cpu").base.model.config.num_hidden_layers < 60


@pytest.mark.parametrize(
    "name",
    ["num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "num_blocks"],
)
def test_a_number_of_layers_is_known_by_each_of_its_names(tiny_folder, tmp_path, name):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    change(folder / "config.json", **{name: 10**6})
    with pytest.raises(PolicyError, match="layers with"):
        load_policy(folder, device="cpu")


@pytest.mark.parametrize(
    "name", ["num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts"]
)
def test_a_number_of_experts_is_known_by_each_of_its_names(tiny_folder, tmp_path, name):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    change(folder / "config.json", **{name: 10**6})
    with pytest.raises(PolicyError, match="1000000 experts"):
        load_policy(folder, device="cpu")
