"""A GGUF file as the base: chosen in the menu, trained, exported, opened again; as it stands in llama.cpp."""

from __future__ import annotations

import json
import shutil

import pytest
from gguf_models import exported, needs_llama
from gguf_writing import rewritten, whole_file
from loaded_pack import call, submodule

checks = submodule("nodes.checks.exports")
errors = submodule("gdpo.errors")
export = submodule("gdpo.export.pipeline")
host = submodule("nodes.comfy.host")
loading = submodule("gdpo.policies.loading")
objectives = submodule("gdpo.objective.objective")
paths = submodule("nodes.checks.paths")
policies = submodule("gdpo.policies.policy")
prompts = submodule("gdpo.prompts")
rewards = submodule("gdpo.rewards")
settings = submodule("gdpo.settings")
side = submodule("gdpo.export.side_by_side")
trainer = submodule("gdpo.training.trainer")

ROWS = [prompts.make_prompt(f"the printer {n}") for n in range(2)]


def train(policy, folder):
    objective = objectives.combine_rewards([rewards.Reward("polite", rewards.Politeness())])
    chosen = settings.TrainSettings(
        steps=1, prompts_per_step=1, group_size=4, max_new_tokens=4, lora_rank=1
    )
    return trainer.train(policy, ROWS, objective, chosen, folder)


@pytest.fixture
def told(monkeypatch):
    """What nodes have told."""
    lines: list[str] = []
    monkeypatch.setattr(host, "tell", lambda _, text: lines.append(text))
    return lines


@pytest.fixture
def model(folders):
    """The tuned tiny model as Q8_0, in models/LLM."""
    return shutil.copy(exported().files["Q8_0"].path, folders.models[0] / "tiny.gguf")


@needs_llama
def test_a_gguf_file_is_trained_exported_and_opened_again(folders, model, told):
    (policy,) = call("GDPOLoadModel", model="tiny.gguf", device="cpu")
    assert told[-1].startswith(
        "llama, Q8_0, dequantised to float32; beside the file in llama.cpp: KL "
    )
    assert policy.base.source == str(model)
    result = train(policy, folders.output / "gdpo" / "run")
    kept = json.loads((result.folder / "run.json").read_text(encoding="utf-8"))
    assert kept["source"] == str(model)
    assert set(kept["identity"]["files"]) == {"tokenizer", "chat_template"}

    call("GDPOExportGGUF", model=result.policy, type="Q8_0", also="F16", name="")
    files = {path.name: path for path in (result.folder / "gguf").glob("*.gguf")}
    assert set(files) == {"run-Q8_0.gguf", "run-F16.gguf"}
    for path in files.values():
        assert json.loads(path.with_name(f"{path.name}.json").read_text())["holds"] is True
    _check_same_words(model, files["run-F16.gguf"])

    tuned, _, about = call("GDPOLoadRun", run="run", device="cpu")
    assert about.startswith("run: 1 steps")
    for name, tensor in result.policy.adapter.state.items():
        assert tuned.adapter.state[name].equal(tensor)
    assert tuned.base.digest == policy.base.digest
    model_elsewhere = model.rename(folders.models[0] / "renamed.gguf")
    (moved,) = call("GDPOLoadModel", model="renamed.gguf", device="cpu")
    assert call("GDPOLoadRun", run="run", device="cpu", model=moved)[0].base is moved.base
    assert model_elsewhere.is_file()


def _check_same_words(source, made) -> None:
    """The new file says of its tokenizer what the base's file says."""
    from gguf import GGUFReader

    one, other = (
        {
            key: field.contents()
            for key, field in GGUFReader(path).fields.items()
            if key.startswith("tokenizer.")
        }
        for path in (source, made)
    )
    assert one == other
    assert "tokenizer.chat_template" in one


@needs_llama
def test_a_split_model_is_the_whole_one(folders, model, told):
    rewritten(model, folders.models[0] / "split.gguf", tensors=8)
    assert list(paths.list_models()) == ["split-00001-of-00003.gguf", "tiny.gguf"]
    whole = loading.load_policy(model, device="cpu")
    parts = [
        loading.load_policy(folders.models[0] / f"split-0000{n}-of-00003.gguf", device="cpu")
        for n in (1, 3)
    ]
    for part in parts:
        for name, weights in whole.base.model.state_dict().items():
            assert part.base.model.state_dict()[name].equal(weights)
        assert part.base.texts == whole.base.texts
    assert parts[0].base.digest == parts[1].base.digest
    assert side.agreement(parts[0]).unexplained < 0.01


@needs_llama
def test_another_file_is_another_base(folders, model):
    policy = loading.load_policy(model, device="cpu")
    result = train(policy, folders.output / "gdpo" / "run")
    shutil.copy(exported().files["F16"].path, model)
    with pytest.raises(
        errors.TrainingError, match="is not the one that the run 'run' was trained on"
    ):
        call("GDPOLoadRun", run="run", device="cpu")
    with pytest.raises(errors.ExportError, match="has changed since it was loaded"):
        export.export_gguf(result.policy, folders.output / "x", "m", types=["F16"])


@needs_llama
@pytest.mark.parametrize("precision", ["bf16", "nf4"])
def test_other_precisions_are_made_of_the_dequantised_weights(precision, folders, model, told):
    if precision == "nf4":
        from conftest import need_quantised_cpu

        need_quantised_cpu()
    (policy,) = call("GDPOLoadModel", model="tiny.gguf", device="cpu", precision=precision)
    assert "dequantised to float32; beside the file" in told[-1]
    assert policy.base.precision == precision


@needs_llama
def test_a_model_that_llama_cpp_runs_otherwise_is_refused(folders, model, monkeypatch):
    policy = loading.load_policy(model, device="cpu")
    policy.base.model.model.layers[0].self_attn.q_proj.weight.data.neg_()
    with pytest.raises(errors.PolicyError, match=r"another one than llama\.cpp runs"):
        side.about_file(policy)


@needs_llama
def test_a_tokenizer_that_llama_cpp_reads_otherwise_is_refused(folders, model):
    changed = rewritten(model, folders.models[0] / "other.gguf", tokenizer__ggml__pre="qwen2")
    policy = loading.load_policy(changed, device="cpu")
    beside = loading.load_policy(model, device="cpu")
    mixed = policies.Policy(
        type(policy.base)(**{**vars(beside.base), "source": policy.base.source})
    )
    with pytest.raises(errors.PolicyError, match="The tokenizer that transformers makes of"):
        side.agreement(mixed)


def test_the_menu_has_models_alone(folders):
    root = folders.models[0]
    (root / "org").mkdir()
    (root / "folder").mkdir()
    (root / "folder" / "config.json").write_text("{}")
    for name in (
        *(
            "a.gguf",
            "org/b.GGUF",
            "mmproj-a.gguf",
            "x-00001-of-00002.gguf",
            "x-00002-of-00002.gguf",
        ),
        *("folder/c.gguf", ".hidden.gguf", "notes.txt"),
    ):
        (root / name).write_bytes(whole_file({"general.architecture": "llama"}))
    (root / "directory.gguf").mkdir()
    (root / "gone.gguf").symlink_to(root / "nowhere")
    listed = ["a.gguf", "folder", "folder/c.gguf", "org/b.GGUF", "x-00001-of-00002.gguf"]
    assert list(paths.list_models()) == listed


def test_a_file_of_the_menu_that_is_no_model_says_what_it_is(folders):
    (folders.models[0] / "x.gguf").write_bytes(
        whole_file({"general.architecture": "llama", "general.type": "adapter"})
    )
    with pytest.raises(errors.PolicyError, match=r"x\.gguf' is a LoRA adapter, no whole model"):
        call("GDPOLoadModel", model="x.gguf", device="cpu")
