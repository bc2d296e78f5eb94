"""No code of a stranger runs, in this process or in a worker, whatever a model's files name.

Each entry puts something into an honest model. Either Load Model refuses it with one line, or the model is used to
the end, and then this process and its workers have imported, compiled, started and connected to nothing more than
the honest model made them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
from gguf_models import needs_converter, needs_llama
from strangers import change, honest_model, plant, watched

from gdpo.errors import PolicyError
from gdpo.export import converter
from gdpo.export.pipeline import export_gguf
from gdpo.llamacpp.generate import generate
from gdpo.policies.adapter import fresh_config, load_adapter
from gdpo.policies.architectures import check_architectures
from gdpo.policies.chat import render_prompt
from gdpo.policies.loading import load_policy
from gdpo.prompts import make_prompt
from gdpo.workers import process as worker

PROMPT = make_prompt("thank you")
REMOTE = {"AutoTokenizer": ["models/LLM/evil--evil.Tok", None]}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return honest_model(tmp_path_factory.mktemp("honest") / "model")


@pytest.fixture
def evil(model, tmp_path, monkeypatch) -> Path:
    """A model's folder with code in it, at a place that a path relative to the working directory names."""
    monkeypatch.chdir(tmp_path)
    folder = Path(copytree(model, tmp_path / "models" / "LLM" / "evil"))
    plant(folder, tmp_path / "mark")
    yield folder
    assert not (tmp_path / "mark").exists(), "code of the model ran"


def use(folder: Path, out: Path) -> None:
    """All that is done with a model: load, render, export with everything that is verified, answer."""
    policy = load_policy(folder, device="cpu")
    render_prompt(policy.base.tokenizer, PROMPT)
    (file,) = export_gguf(policy, out, "m", types=["F16"], prompts=[PROMPT])
    if converter.runtime_version():
        generate(file.path, [PROMPT], max_new_tokens=2, temperature=0.0, seed=0)


# --- code that is named ------------------------------------------------------------------------------

Attack = Callable[[Path], object]


def config(**entries: object) -> Attack:
    return lambda folder: change(folder / "config.json", **entries)


def tokenizer(**entries: object) -> Attack:
    return lambda folder: change(folder / "tokenizer_config.json", **entries)


def other(name: str, **entries: object) -> Attack:
    def attack(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        change(folder / name, **entries)

    return attack


REFUSED: dict[str, tuple[Attack, str]] = {
    "tokenizer's code": (tokenizer(auto_map=REMOTE), "tokenizer_config.json.*auto_map.*remove"),
    "tokenizer's code in older form": (tokenizer(auto_map=["evil.Tok", None]), "auto_map"),
    "tokenizer's code in the configuration": (config(auto_map=REMOTE), r"config\.json.*auto_map"),
    "code of a part": (config(text_config={"auto_map": REMOTE}), "auto_map"),
    "code in a list": (config(parts=[[{"auto_map": REMOTE}]]), "auto_map"),
    "processor's code": (other("processor_config.json", auto_map=REMOTE), "processor_config"),
    "code in a folder": (other("tok/tokenizer_config.json", auto_map=REMOTE), "auto_map"),
    "code in a file in capitals": (other("Tokenizer_Config.JSON", auto_map=REMOTE), "auto_map"),
    "answers' settings": (other("generation_config.json", custom_generate="a/b"), "never run"),
    "pipeline": (config(custom_pipelines={"x": {"impl": "evil.Tok"}}), "never run"),
    "file by name": (config(helper="evil.py"), "names code in the model's folder"),
    "class by name": (config(helpers=["org/repo--evil.Tok"]), "names code in the model's folder"),
    "answers' code": (
        lambda folder: plant(folder, folder.parents[2] / "mark", "custom_generate/generate.py"),
        "custom_generate",
    ),
    "attention from the hub": (config(attn_implementation="a/kernel"), "code from outside"),
    "attention by its inner name": (
        config(_attn_implementation_internal="a/kernel"),
        "code from outside",
    ),
    "experts from the hub": (config(experts_implementation="a/kernel"), "code from outside"),
    "kernels for numbers": (
        config(quantization_config={"quant_method": "mxfp4"}),
        "kernels from outside",
    ),
    "compiler for the answers": (
        other("generation_config.json", compile_config={"_compile_all_devices": True}),
        "cannot be loaded.*CompileConfig",
    ),
    "list of methods": (config(quantization_config={"quant_method": ["a"]}), "kernels from"),
    "part of torch as numbers": (config(dtype="_inductor"), "no type of numbers"),
    "part of torch in older form": (config(torch_dtype="onnx"), "no type of numbers"),
    "retriever as tokenizer": (tokenizer(tokenizer_class="RagRetriever"), "no tokenizer"),
    "retriever in the configuration": (config(tokenizer_class="RagTokenizer"), "no tokenizer"),
    "trainer as tokenizer": (tokenizer(tokenizer_class="Trainer"), "no tokenizer"),
    "ring of tokenizers": (tokenizer(tokenizer_class="AutoTokenizer"), "no tokenizer"),
    "adapter of another model": (
        other("adapter_config.json", base_model_name_or_path="a/b", auto_mapping={"a": "b"}),
        "holds an adapter",
    ),
    "other class first": (
        config(architectures=["DreamModel", "LlamaForCausalLM"]),
        "DreamModel.*LlamaForCausalLM",
    ),
    "other class in a part": (config(llm_config={"architectures": ["DreamModel"]}), "DreamModel"),
    "honest class of another kind in a part": (
        config(lm_config={"architectures": ["BertModel"], "model_type": "bert"}),
        "BertModel",
    ),
    "class that is a number": (config(architectures=[5]), "architecture"),
}


def test_honest_model_is_watched(model, tmp_path, monkeypatch):
    with watched(monkeypatch, worker, tmp_path / "log.jsonl") as seen:
        load_policy(model, device="cpu")
    assert ("import", "evil") not in seen


@pytest.mark.parametrize("case", REFUSED)
def test_what_names_code_is_refused_when_the_model_is_loaded(case, evil, tmp_path, monkeypatch):
    attack, message = REFUSED[case]
    load_policy(evil, device="cpu")  # honest so far, although code that nothing names lies there
    with watched(monkeypatch, worker, tmp_path / "honest.jsonl") as honest:
        load_policy(evil, device="cpu")
    attack(evil)
    with (
        watched(monkeypatch, worker, tmp_path / "attack.jsonl") as seen,
        pytest.raises(PolicyError, match=message) as caught,
    ):
        load_policy(evil, device="cpu")
    assert len(str(caught.value).splitlines()) == 1
    assert telling(seen) - telling(honest) == set()


def telling(seen: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Without what Python does by itself: code that dataclasses make has no file."""
    return {(event, text) for event, text in seen if text not in {"None", "<string>", "<unknown>"}}


# --- what is accepted because no library makes code of it ------------------------------------------

ACCEPTED: dict[str, Attack] = {
    "cache that would be compiled": other("generation_config.json", cache_implementation="static"),
    "cache of an honest Gemma": config(cache_implementation="hybrid"),
    "name of another model": config(_name_or_path="attacker/model", _commit_hash="main"),
    "processor": tokenizer(processor_class="Attacker", name_or_path="attacker/model"),
    "words of a vocabulary": lambda folder: change(folder / "vocab.json", auto_map=1, evil=2),
    "page about the model": lambda folder: (folder / "README.md").write_text("---\na: !!x\n---\n"),
}


@needs_converter
@needs_llama
def test_what_names_nothing_makes_no_process_do_more_than_an_honest_model(
    evil, tmp_path, monkeypatch
):
    with watched(monkeypatch, worker, tmp_path / "honest.jsonl") as honest:
        use(evil, tmp_path / "honest")
    assert any(event == "worker import" and text == "torch" for event, text in honest)
    for attack in ACCEPTED.values():
        attack(evil)
    with watched(monkeypatch, worker, tmp_path / "attack.jsonl") as seen:
        use(evil, tmp_path / "attack")
    more = {(event, text) for event, text in telling(seen) - telling(honest)}
    assert {(event, text) for event, text in more if "gdpo-" not in text} == set()


# --- architectures ---------------------------------------------------------------------------------


def test_first_architecture_may_be_any_class_of_the_loaded_kind(model):
    loaded = load_policy(model, device="cpu").base.model
    honest = json.loads((model / "config.json").read_text(encoding="utf-8"))
    for names in (["LlamaForCausalLM"], ["LlamaModel"], [], None):
        check_architectures({**honest, "architectures": names}, loaded, "m")
    for names in (["DreamModel"], ["BertModel", "LlamaForCausalLM"], "x", [None], {"a": 1}):
        with pytest.raises(PolicyError, match="architecture"):
            check_architectures({**honest, "architectures": names}, loaded, "m")


# --- adapters --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entries",
    [
        {"megatron_config": {"x": 1}, "megatron_core": "models.LLM.evil.evil"},
        {"auto_mapping": {"parent_library": "evil", "base_model_class": "Tok"}},
        {"init_lora_weights": "eva"},
        {"peft_type": "PROMPT_TUNING", "tokenizer_name_or_path": "a/b"},
    ],
)
def test_adapter_that_this_pack_did_not_write_is_refused(entries, evil, tmp_path):
    from safetensors.torch import save_file

    folder = tmp_path / "adapter"
    folder.mkdir()
    change(folder / "adapter_config.json", **{**fresh_config(2, 4), **entries})
    save_file({}, folder / "adapter_model.safetensors")
    with pytest.raises(PolicyError, match=next(iter(entries))):
        load_adapter(folder)
