"""What an export refuses before its work starts."""

from __future__ import annotations

import shutil

import pytest
from conftest import make_model, make_tokenizer
from gguf_models import (
    PROMPTS,
    change_json,
    copied,
    model_folder,
    needs_converter,
)

from gdpo.errors import ExportError
from gdpo.export.checks import plan_export
from gdpo.export.formats import DIRECT_TYPES
from gdpo.export.model_checks import row_lengths
from gdpo.export.pipeline import export_gguf
from gdpo.policies.adapter import Adapter
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import Policy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"types": ["Q9_X"]}, r"`types` should be of F32, .*Found 'Q9_X'"),
        ({"types": []}, r"`types` is empty; choose from F32"),
        ({"name": "../up"}, r"`name` should be a plain file name .*Found '\.\./up'"),
        ({"name": ""}, r"`name` should be a plain file name .*Found ''"),
    ],
)
def test_bad_arguments_are_refused_and_name_the_value(tmp_path, changes, message):
    policy = load_policy(model_folder(), device="cpu")
    with pytest.raises(ExportError, match=message):
        export_gguf(policy, tmp_path / "gguf", **({"name": "m", "types": ["F16"]} | changes))
    assert not (tmp_path / "gguf").exists()


def test_an_existing_file_is_never_overwritten(tmp_path):
    policy = load_policy(model_folder(), device="cpu")
    (tmp_path / "m-Q8_0.gguf").write_bytes(b"precious")
    with pytest.raises(ExportError, match=r"m-Q8_0\.gguf' exists and is never overwritten"):
        export_gguf(policy, tmp_path, "m", types=["F16", "Q8_0"])
    assert (tmp_path / "m-Q8_0.gguf").read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["m-Q8_0.gguf"]


@needs_converter
@pytest.mark.parametrize(
    ("width", "kind", "message"),
    [
        (
            176,
            "Q4_K_M",
            r"Q4_K_M .* 32, but intermediate_size is 176, .*these fit: F32, F16, BF16\.$",
        ),
        (176, "Q8_0", r"Q8_0 .*multiples of 32.*176.*these fit: F32, F16, BF16\.$"),
        (200, "IQ4_XS", r"IQ4_XS .*multiples of 32.*200.*these fit: F32, F16, BF16\.$"),
    ],
)
def test_rows_that_do_not_fit_a_type_are_named_with_the_types_that_do(
    tmp_path, width, kind, message
):
    folder = make_model(tmp_path / "model", hidden_size=256, intermediate_size=width)
    policy = load_policy(folder, device="cpu")
    with pytest.raises(ExportError, match=message):
        plan_export(policy, tmp_path / "gguf", "m", [kind])
    assert plan_export(policy, tmp_path / "gguf", "m", ["F16"]).direct == ("F16",)


def test_row_lengths_are_read_from_any_familys_configuration():
    from transformers import GPT2Config, LlamaConfig

    llama = LlamaConfig(hidden_size=256, intermediate_size=512, num_attention_heads=4, head_dim=32)
    assert row_lengths(llama) == {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_attention_heads * head_dim": 128,
    }
    assert row_lengths(GPT2Config(n_embd=96, n_inner=384)) == {
        "hidden_size": 96,
        "intermediate_size": 384,
    }


@needs_converter
def test_heads_that_are_turned_in_part_are_refused_where_the_converter_mixes_their_rows(tmp_path):
    from transformers import BambaConfig, BambaForCausalLM

    tokenizer = make_tokenizer()
    for share in (0.5, 1.0):
        config = BambaConfig(
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            attn_layer_indices=[1],
            mamba_n_heads=4,
            mamba_d_state=16,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e4,
                "partial_rotary_factor": share,
            },
            vocab_size=len(tokenizer),
        )
        BambaForCausalLM(config).save_pretrained(tmp_path / str(share))
        tokenizer.save_pretrained(tmp_path / str(share))
    with pytest.raises(ExportError, match="reads heads of 'bamba' wrong"):
        plan_export(load_policy(tmp_path / "0.5", device="cpu"), tmp_path, "m", ["F16"])
    plan_export(load_policy(tmp_path / "1.0", device="cpu"), tmp_path, "m", ["F16"])


@needs_converter
def test_experts_that_llama_cpp_would_normalise_wrongly_are_refused(tmp_path):
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    tokenizer = make_tokenizer()
    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "moe_intermediate_size"), 32)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    for normalises in (False, True):
        config = Qwen3MoeConfig(
            **sizes,
            **heads,
            num_hidden_layers=1,
            num_experts=4,
            num_experts_per_tok=2,
            norm_topk_prob=normalises,
            vocab_size=len(tokenizer),
        )
        Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / str(normalises))
        tokenizer.save_pretrained(tmp_path / str(normalises))
    with pytest.raises(ExportError, match=r"norm_topk_prob=False, which llama\.cpp ignores"):
        plan_export(load_policy(tmp_path / "False", device="cpu"), tmp_path, "m", ["F16"])
    plan_export(load_policy(tmp_path / "True", device="cpu"), tmp_path, "m", ["F16"])


@needs_converter
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["NovelForCausalLM"]},
            r"does not know the architecture 'NovelForCausalLM'",
        ),
        ({"quantization_config": {"quant_method": "gptq"}}, r"is itself quantised \(gptq\)"),
    ],
)
def test_models_that_cannot_be_converted_are_refused(tmp_path, changes, message):
    folder = copied(tmp_path)
    policy = load_policy(folder, device="cpu")
    change_json(folder / "config.json", **changes)
    with pytest.raises(ExportError, match=message):
        export_gguf(policy, tmp_path / "gguf", "m", types=["F16"])
    assert not (tmp_path / "gguf").exists()


@needs_converter
def test_an_adapter_that_is_no_lora_is_refused(tmp_path):
    base = load_policy(model_folder(), device="cpu")
    policy = Policy(base.base, Adapter({"peft_type": "PROMPT_TUNING"}, {}))
    with pytest.raises(ExportError, match=r"Only LoRA adapters .*'PROMPT_TUNING'"):
        plan_export(policy, tmp_path, "m", ["F16"])


@needs_converter
def test_a_full_disk_is_noticed_beforehand(tmp_path, monkeypatch):
    policy = load_policy(model_folder(), device="cpu")
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ExportError, match=r"takes about .* GB .* has 0\.0 GB free"):
        export_gguf(policy, tmp_path / "gguf", "m", types=["F16"])
    assert not (tmp_path / "gguf").exists()


@needs_converter
def test_without_llama_cpp_python_only_direct_types_can_be_written(tmp_path, monkeypatch):
    policy = load_policy(model_folder(), device="cpu")
    monkeypatch.setattr("gdpo.export.checks.runtime_version", lambda: None)
    with pytest.raises(ExportError, match=r"Q4_K_M needs llama-cpp-python.*pip install llama-cpp"):
        plan_export(policy, tmp_path, "m", ["F16", "Q4_K_M"])
    assert set(plan_export(policy, tmp_path, "m", DIRECT_TYPES).targets) == set(DIRECT_TYPES)


@needs_converter
def test_without_llama_cpp_python_a_file_is_written_unverified_and_says_so(tmp_path, monkeypatch):
    policy = load_policy(model_folder(), device="cpu")
    monkeypatch.setattr("gdpo.export.pipeline.runtime_version", lambda: None)
    (file,) = export_gguf(policy, tmp_path / "gguf", "m", types=["Q8_0"], prompts=PROMPTS)
    assert file.path.is_file()
    assert file.report.holds is None
    assert file.report.kl is None
    assert "pip install llama-cpp-python" in file.report.why


@needs_converter
@pytest.mark.parametrize(
    ("pattern", "message"),
    [("tokenizer.json", "holds no vocabulary"), ("*.safetensors", "holds no weights any more")],
)
def test_files_that_are_gone_since_the_loading_are_noticed(pattern, message, tmp_path):
    folder = copied(tmp_path)
    policy = load_policy(folder, device="cpu")
    for file in folder.glob(pattern):
        file.unlink()
    with pytest.raises(ExportError, match=message):
        plan_export(policy, tmp_path / "gguf", "m", ["F16"])


def test_a_folder_that_cannot_be_written_is_noticed(tmp_path):
    policy = load_policy(model_folder(), device="cpu")
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="file' cannot be written"):
        plan_export(policy, tmp_path / "file" / "gguf", "m", ["F16"])
