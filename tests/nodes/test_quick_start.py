"""The whole graph of the quick start runs, exports and verifies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loaded_pack import PACK, ROOT, call, submodule

host = submodule("nodes.comfy.host")
progress = submodule("nodes.comfy.progress")
paths = submodule("nodes.checks.paths")
guard = submodule("nodes.checks.guard")
values = submodule("nodes.checks.values")
validation = submodule("nodes.checks.validation")
commands = submodule("nodes.headless.commands")
workflow = submodule("nodes.headless.workflow")
workflow_file = submodule("nodes.headless.workflow_file")
errors = submodule("gdpo.errors")
rewards = submodule("gdpo.rewards")
prompts = submodule("gdpo.prompts")

NODES = PACK.NODE_CLASS_MAPPINGS
QUICK_START = ROOT / "workflows" / "quick_start.json"


SMALL = [
    *(
        "2.limit=2",
        "3.limit=2",
        "8.run_name=whole",
        "8.steps=1",
        "8.prompts_per_step=1",
        "8.group_size=2",
    ),
    *(
        "8.max_new_tokens=8",
        "8.eval_every=1",
        "11.max_new_tokens=8",
        "12.max_new_tokens=8",
        "12.count=2",
    ),
]


def test_quick_start_names_every_main_node_and_is_valid():
    graph = workflow_file.read_workflow(QUICK_START)
    assert validation.check_workflow(graph, NODES)
    used = {node["class_type"] for node in graph.values()}
    main = {node_id for node_id in NODES if not node_id.startswith("GDPODefineReward")}
    assert main - used == {"GDPOLoadRun"}  # which is for a run of an earlier day


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The quick-start graph, run small, with everything in it real."""
    if submodule("gdpo.llamacpp.runtime").runtime_version() is None:
        pytest.skip("llama-cpp-python is not installed")
    output = tmp_path_factory.mktemp("whole")
    host.configure(host.Folders(output, output / "input", (output / "models",)))
    graph = workflow_file.apply_settings(workflow_file.read_workflow(QUICK_START), SMALL, NODES)
    taken = paths.resolve_output("whole") / "gguf" / "whole-Q8_0.gguf"
    taken.parent.mkdir(parents=True)
    taken.write_text("somebody's")
    outcomes = workflow.run_workflow(graph, NODES)
    yield {outcome.class_type: outcome for outcome in outcomes.values()}
    host.configure(None)


def test_graph_exports_and_verifies_both_files(whole):
    files = whole["GDPOExportGGUF"].ui["gguf"]
    assert [file["type"] for file in files] == ["Q8_0", "F16"]
    assert all(file["holds"] for file in files)
    assert all(Path(file["path"]).is_file() for file in files)
    assert "holds" in whole["GDPOExportGGUF"].outputs[1]


def test_export_takes_the_next_name_where_a_file_is_in_the_way(whole):
    first = whole["GDPOExportGGUF"].outputs[0].path
    assert first.name == "whole-2-Q8_0.gguf"
    assert first.with_name("whole-Q8_0.gguf").read_text() == "somebody's"


def test_graph_answers_and_compares(whole):
    assert isinstance(whole["GDPOChat"].outputs[0], str)
    answer = whole["GDPOCompare"].ui["answers"][0]
    assert list(answer) == ["prompt", "base", "tuned", "gguf"]
    assert "solves the problem" in whole["GDPOCompare"].outputs[0]


def test_summary_has_the_documented_form(whole):
    summary = json.loads(json.dumps(commands.summarise(whole), allow_nan=False))
    assert list(summary) == ["rewards", "findings", "gguf", "plot", "history", "answers"]
    assert list(summary["rewards"]) == ["politeness", "conciseness", "solves the problem"]
    assert all(list(value) == ["before", "after"] for value in summary["rewards"].values())
    keys = ["path", "type", "kl", "top1", "holds", "bits_per_weight", "fell_back"]
    assert all(list(file) == keys for file in summary["gguf"])
    assert Path(summary["plot"]).is_file()
    assert Path(summary["history"]).is_file()
    assert list(summary["answers"]) == ["base", "tuned", "gguf"]
    text = commands.describe({**summary, "seconds": 61.4}, "Why?", Path("summary.json"))
    assert text.startswith("Done in 61 s.")
    assert "Asked: Why?" in text
    assert text.endswith("summary.json")


def test_empty_message_to_chat_is_refused(whole):
    with pytest.raises(errors.WorkflowError, match="message"):
        call("GDPOChat", gguf=whole["GDPOExportGGUF"].outputs[0], message="  ")
