"""An export that cannot succeed is refused before the training whose result it takes, not hours later."""

from __future__ import annotations

import json
import shutil

import pytest
from loaded_pack import call, submodule
from node_training import TINY

commands = submodule("nodes.headless.commands")
errors = submodule("gdpo.errors")
exports = submodule("nodes.checks.exports")
checks = submodule("gdpo.export.checks")


def node(kind: str, **inputs: object) -> dict:
    return {"class_type": kind, "inputs": inputs}


def graph(source: str = "5", **export: object) -> dict:
    """A training in node 5 and an export in node 6, with a chat in node 7."""
    return {
        "5": node("GDPOTrain"),
        "6": node("GDPOExportGGUF", model=[source, 0], **{"type": "F16", "also": "none", **export}),
        "7": node("GDPOChat", gguf=["6", 0]),
    }


def refusal(parts, workflow: dict, **inputs: object) -> str:
    with pytest.raises(errors.ExportError) as caught:
        call("GDPOTrain", **parts, run_name="a", unique_id="5", workflow=workflow, **TINY, **inputs)
    return str(caught.value)


@pytest.fixture
def no_converter(monkeypatch, tmp_path):
    monkeypatch.setenv("GDPO_LLAMA_CPP", str(tmp_path))


def test_without_a_converter_the_training_does_not_begin(parts, folders, no_converter):
    message = refusal(parts, graph())
    assert message.startswith("node 6 (GDPOExportGGUF): GDPO_LLAMA_CPP is ")
    assert "before the training" in message
    assert not (folders.output / "gdpo" / "a").exists()


@pytest.mark.parametrize("source", ["4", "8"])
def test_an_export_of_another_model_is_not_asked(source, parts, folders, no_converter):
    call("GDPOTrain", **parts, run_name="a", unique_id="5", workflow=graph(source), **TINY)


def test_a_type_that_needs_llama_cpp_python_is_refused_without_it(parts, folders, monkeypatch):
    monkeypatch.setattr(checks, "runtime_version", lambda: None)
    monkeypatch.setattr(exports, "runtime_version", lambda: None)
    assert "The type Q4_K_M needs llama-cpp-python" in refusal(parts, graph(type="Q4_K_M"))
    assert "The type Q4_K_M needs llama-cpp-python" in refusal(parts, graph(also="Q4_K_M"))
    assert refusal(parts, graph()).startswith("node 7 (GDPOChat): needs llama-cpp-python")


def test_a_model_that_cannot_be_converted_is_refused(parts, folders, tmp_path):
    source = tmp_path / "copy"
    shutil.copytree(parts["model"].base.source, source)
    config = json.loads((source / "config.json").read_text())
    (folders.models[0]).mkdir(exist_ok=True)
    (folders.models[0] / "copy").symlink_to(source)
    (model,) = call("GDPOLoadModel", model="copy", device="cpu")
    for change, reason in [
        ({"quantization_config": {"quant_method": "gptq"}}, "is itself quantised (gptq)"),
        ({"architectures": ["NobodyForCausalLM"]}, "does not know the architecture"),
    ]:
        (source / "config.json").write_text(json.dumps({**config, **change}))
        assert reason in refusal({**parts, "model": model}, graph())


def test_odd_workflows_are_no_fault_of_the_training(parts, folders):
    odd = {"6": node("GDPOExportGGUF", model=["5", 0], type=["9", 0], also=7, name=["9", 1])}
    far = {"6": node("GDPOExportGGUF", model=["5", float("inf")])}
    for workflow in (
        odd,
        far,
        {"6": {"class_type": []}},
        {"6": 3},
        {"6": {"class_type": "GDPOExportGGUF", "inputs": 1}},
        {},
    ):
        exports.check_exports(parts["model"], folders.output / "gdpo" / "a", workflow, "5")


def test_the_program_refuses_before_the_training(folders, tmp_path, no_converter):
    settings = {"method": "gdpo", "weighting": "fixed", "dispersion_floor": 0.0}
    whole = {
        "1": node("GDPOLoadModel", model="starter (bundled)", device="cpu"),
        "2": node("GDPOLoadPrompts", file="support desk: train", limit=4),
        "3": node("GDPODefineRewardPoliteness", name="polite"),
        "4": node("GDPOCombineRewards", reward_1=["3", 0], **settings),
        "5": node("GDPOTrain", model=["1", 0], prompts=["2", 0], rewards=["4", 0], run_name="a", **TINY),
        "6": node("GDPOExportGGUF", model=["5", 0], type="F16"),
    }  # fmt: skip
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(
        errors.ExportError, match=r"node 5 .*: node 6 \(GDPOExportGGUF\): GDPO_LLAMA"
    ):
        commands.run_file(file, [])
    assert not (folders.output / "gdpo" / "a").exists()
