"""Code that a model's files name is refused at loading, at the export, and by the converter's own process."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from conftest import make_model
from gguf_models import needs_converter

from gdpo.errors import ExportError, GDPOError, PolicyError
from gdpo.export import converter, merge
from gdpo.export.pipeline import export_gguf
from gdpo.policies.adapter import load_adapter, read_adapter, save_adapter
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import trainable
from gdpo.workers import process

AUDITED = Path(__file__).with_name("audited_worker.py")
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


# --- workers ---------------------------------------------------------------------------------------------


def audited(script: Path, folder: Path) -> tuple[Path, Path]:
    """A worker program that writes down what it does before it is `script`, and where it writes."""
    log, wrapper = folder / f"{script.stem}.log", folder / f"audited_{script.name}"
    wrapper.write_text(
        "import importlib.util, runpy, sys\n"
        f"spec = importlib.util.spec_from_file_location('audited_worker', {str(AUDITED)!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"module.watch({str(log)!r})\n"
        f"sys.argv[0] = {str(script)!r}\n"
        f"runpy.run_path({str(script)!r}, run_name='__main__')\n"
    )
    return wrapper, log


def events(log: Path) -> list[list[str]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def convert(folder: Path, scratch: Path) -> list[list[str]]:
    """What the converter's process does with a model folder, as it is; conversion may fail."""
    scratch.mkdir()
    wrapper, log = audited(converter.CONVERT_WORKER, scratch)
    request = {
        "task": "Converting",
        "converter": str(converter.find_converter()),
        "model": str(folder),
        "name": "m",
        "outputs": [["F16", str(scratch / "m.gguf")]],
    }
    try:
        process.run_worker(wrapper, request)
    except ExportError:
        assert not (scratch / "m.gguf").exists()
    return events(log)


def unusual(found: list[list[str]], usual: list[list[str]]) -> list[list[str]]:
    """Events of a stranger's model that an honest one does not cause.

    The standard library and the converter's own programs, of which an architecture's name chooses one, may be imported.
    """
    own = (os.path.dirname(os.__file__), str(converter.find_converter()))
    allowed = {*sys.stdlib_module_names, "conversion"}
    known = {json.dumps(event) for event in usual}
    return [
        event
        for event in found
        if json.dumps(event) not in known
        and not (event[0] == "import" and event[1].partition(".")[0] in allowed)
        and not (event[0] == "compile" and event[1].startswith(own))
    ]


@needs_converter
def test_the_converter_runs_no_code_of_a_model_that_reaches_it(stranger, ran, tmp_path):
    """The folder's checks are passed by here: this is the second wall."""
    usual = convert(stranger, tmp_path / "honest")
    assert (tmp_path / "honest" / "m.gguf").exists()
    assert any(event[0] == "compile" for event in usual)  # the hook sees what it should
    for number, attack in enumerate((names_a_tokenizer, NAMED["tokenizer"], NAMED["config"])):
        folder = make_model(tmp_path / "models" / "LLM" / f"evil{number}")
        (folder / "evil.py").write_bytes((stranger / "evil.py").read_bytes())
        attack(folder)
        found = convert(folder, tmp_path / f"attack{number}")
        assert not ran.exists()
        assert unusual(found, usual) == []


@needs_converter
def test_a_converter_that_asks_to_trust_the_code_is_not_given_it(stranger, ran, tmp_path):
    """As llama.cpp's does in many places, in the form that its own process then meets."""
    NAMED["tokenizer"](stranger)
    fake = tmp_path / "converter"
    fake.mkdir()
    (fake / "convert_hf_to_gguf.py").write_text(
        "class Model:\n"
        "    def get_vocab_base_pre(self, tokenizer): ...\n"
        "def main():\n"
        "    from transformers import AutoConfig, AutoTokenizer\n"
        f"    AutoTokenizer.from_pretrained({str(stranger)!r}, trust_remote_code=True)\n"
    )
    request = {
        "converter": str(fake),
        "model": str(stranger),
        "name": "m",
        "outputs": [["F16", "x"]],
    }
    process.run_worker(converter.CONVERT_WORKER, {"task": "Converting", **request})
    assert not ran.exists()


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
