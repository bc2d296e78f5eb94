"""Code that a model's files name is refused at loading, at the export, and by the converter's own process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import make_model
from gguf_models import needs_converter

from gdpo.errors import ExportError, GDPOError, PolicyError
from gdpo.export import merge
from gdpo.export.pipeline import export_gguf
from gdpo.policies.adapter import load_adapter, read_adapter, save_adapter
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import trainable

MARK = "GDPO_STRANGER_RAN"


@pytest.fixture
def ran(tmp_path):
    """The file that a stranger's code leaves if it ever runs."""
    return tmp_path / "ran"


@pytest.fixture
def stranger(tmp_path, ran, monkeypatch):
    """An honest small Llama as `models/LLM/evil`, with code beside it; the working directory is above it."""
    folder = make_model(tmp_path / "models" / "LLM" / "evil")
    code = (
        f"open({str(ran)!r}, 'w').close()\n"
        "from transformers import PreTrainedTokenizerFast as Tok, PretrainedConfig as Config\n"
        "from transformers import LlamaForCausalLM as Model\n"
    )
    (folder / "evil.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return folder


def change(file: Path, **entries) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **entries}))


def names_a_tokenizer(folder: Path) -> None:
    code = ["models/LLM/evil--evil.Tok", None]
    change(folder / "config.json", architectures=["DreamModel", "LlamaForCausalLM"])
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": code})


NAMED = {
    "tokenizer by path": names_a_tokenizer,
    "tokenizer": lambda f: change(
        f / "tokenizer_config.json", auto_map={"AutoTokenizer": "evil.Tok"}
    ),
    "config": lambda f: change(f / "config.json", auto_map={"AutoConfig": "evil.Config"}),
    "model": lambda f: change(f / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}),
    "model on the hub": lambda f: change(
        f / "config.json", auto_map={"AutoModelForCausalLM": "org/name--evil.Model"}
    ),
    "deep in the config": lambda f: change(
        f / "config.json", text_config={"parts": [{"auto_map": {"AutoConfig": "evil.Config"}}]}
    ),
    "processor": lambda f: change(
        f / "processor_config.json", auto_map={"AutoProcessor": "evil.P"}
    ),
    "image processor": lambda f: change(
        f / "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.P"}
    ),
    "generation": lambda f: change(f / "generation_config.json", auto_map={"AutoConfig": "evil.C"}),
    "a file by its name": lambda f: change(f / "generation_config.json", custom_generate="evil.py"),
    "a class by its name": lambda f: change(
        f / "config.json", custom_pipelines={"x": {"impl": "evil.P"}}
    ),
    "a file in a folder": lambda f: (
        (f / "custom_generate").mkdir(),
        (f / "evil.py").rename(f / "custom_generate" / "generate.py"),
        change(f / "config.json", generate="custom_generate/generate.py"),
    ),
    "a file that nothing else names": lambda f: change(f / "tool_config.json", entry="./evil.py"),
}


@pytest.mark.parametrize("case", NAMED)
def test_a_model_that_names_code_is_refused_before_anything_is_read(case, stranger, ran):
    NAMED[case](stranger)
    with pytest.raises(PolicyError, match=r"names code|is never run") as caught:
        load_policy(stranger, device="cpu")
    assert len(str(caught.value).splitlines()) == 1
    assert not ran.exists()


def test_settings_that_merely_mention_a_class_are_honest(stranger, ran):
    change(stranger / "config.json", note="LlamaForCausalLM", auto_map={}, parts=["evil", "py"])
    load_policy(stranger, device="cpu")
    assert not ran.exists()


# --- adapters --------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path, tiny_policy):
    """A trained run's adapter folder."""
    with trainable(tiny_policy, rank=2, alpha=4, seed=0) as model:
        save_adapter(read_adapter(model), tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_honest_adapter_is_read(adapter):
    assert load_adapter(adapter).config["r"] == 2


@pytest.mark.parametrize(
    "entries",
    [
        {"megatron_config": {"a": 1}, "megatron_core": "evil"},  # peft imports it by name
        {"auto_mapping": {"base_model_class": "M", "parent_library": "evil"}},
        {"peft_type": "XLORA"},
        {"layer_replication": [[0, 2]] * 10_000},
        {"target_modules": "(a+)+$"},
        {"rank_pattern": {"(a+)+$": 8}},
        {"target_modules": ["(a+)+$"]},
        {"r": 10**9},
        {"r": True},
        {"lora_alpha": "nan"},
        {"modules_to_save": ["lm_head"]},
        {"runtime_config": {"ephemeral_gpu_offload": True}},
        {"something_new": "evil"},
    ],
    ids=lambda entries: next(iter(entries)),
)
def test_an_adapter_that_is_more_than_plain_lora_is_refused(
    entries, adapter, stranger, ran, monkeypatch
):
    monkeypatch.syspath_prepend(str(stranger))
    change(adapter / "adapter_config.json", **entries)
    with pytest.raises(PolicyError) as caught:
        load_adapter(adapter)
    assert len(str(caught.value).splitlines()) == 1
    assert not ran.exists()


# --- exports ---------------------------------------------------------------------------------------------


@needs_converter
def test_the_first_architecture_must_be_the_loaded_class(stranger, ran, tmp_path):
    change(stranger / "config.json", architectures=["DreamModel", "LlamaForCausalLM"])
    with pytest.raises(PolicyError, match="names 'DreamModel' as architecture, but the model is a"):
        load_policy(stranger, device="cpu")
    assert not ran.exists()


@needs_converter
def test_the_first_architecture_must_still_be_the_loaded_class_at_the_export(
    stranger, ran, tmp_path
):
    policy = load_policy(stranger, device="cpu")
    change(stranger / "config.json", architectures=["DreamModel", "LlamaForCausalLM"])
    with pytest.raises(ExportError, match="'DreamModel' first, but 'LlamaForCausalLM' was loaded"):
        export_gguf(policy, tmp_path / "out", "m", types=("F16",))
    assert not ran.exists()


@needs_converter
def test_the_merged_model_names_the_loaded_class_alone(stranger, tmp_path):
    change(stranger / "config.json", architectures=["LlamaForTokenClassification"])
    policy = load_policy(stranger, device="cpu")
    merge.save_merged(policy.base.model, stranger, tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]


def test_code_that_came_after_loading_is_refused_at_the_export(stranger, ran, tmp_path):
    policy = load_policy(stranger, device="cpu")
    NAMED["tokenizer"](stranger)
    with pytest.raises(GDPOError, match=r"names code|is never run"):
        export_gguf(policy, tmp_path / "out", "m", types=("F16",))
    assert not ran.exists()
    assert not list((tmp_path / "out").glob("**/*.gguf"))
