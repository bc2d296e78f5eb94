"""A stranger's workflow is refused before anything in it runs."""

from __future__ import annotations

import math

import pytest
from fence import NODES, errors, refused
from loaded_pack import submodule
from quick_graphs import gate, graph, without

workflow = submodule("nodes.headless.workflow")
workflow_file = submodule("nodes.headless.workflow_file")

GRAPHS = {
    "cycle of gates": (lambda: gate(gate(graph(), "4", "5"), "5", "4"), "cycle"),
    "gate on itself": (lambda: gate(graph(), "4", "4"), "cycle"),
    "gate on a model": (lambda: gate(graph(), "4", "1"), "GDPO_REWARD"),
    "thousand million steps": (lambda: graph(steps=10**9), "above the maximum"),
    "NaN": (lambda: graph(learning_rate=math.nan), "finite"),
    "path as run name": (lambda: graph(run_name="../../outside/x"), "plain name"),
    "object for a name": (lambda: graph(run_name={"a": 1}), "must be text"),
    "link to nowhere": (lambda: graph(model=["../../x", 0]), "not in the workflow"),
    "negative output": (lambda: graph(model=["1", -1]), "linked to output -1"),
    "NaN output": (lambda: graph(model=["1", math.nan]), "linked to output nan"),
    "unknown class": (lambda: without(graph(), "1", class_type="os.system"), "unknown node class"),
    "class that is a list": (lambda: without(graph(), "1", class_type=["x"]), "class_type"),
    "node that is a text": (lambda: {**graph(), "1": "x"}, "class_type"),
    "inputs that are a list": (lambda: without(graph(), "1", inputs=[1]), "inputs must be"),
    "attribute as input": (lambda: graph(__class__=1), "no input '__class__'"),
    "hidden input": (lambda: graph(unique_id="../../outside"), "no input 'unique_id'"),
    "node of another pack": (
        lambda: {**graph(), "x": {"class_type": "PreviewAny", "inputs": {}}},
        "unknown",
    ),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graph_that_could_do_harm_is_refused_before_anything_runs(case, fence):
    make, message = GRAPHS[case]
    with pytest.raises(errors.WorkflowError, match=message):
        workflow.run_workflow(make(), NODES)
    assert list(fence.folders.output.iterdir()) == []


WORKFLOW_FILES = {
    "brackets": "[" * 1_000_000,
    "objects": '{"1":' * 200_000,
    "doubled node": '{"1": {}, "1": {}}',
    "digits": '{"1": {"class_type": "x", "inputs": {"a": ' + "9" * 100_000 + "}}}",
    "infinity": '{"1": Infinity}',
    "number": "1e400",
    "NUL": "\0",
}


@pytest.mark.parametrize("case", WORKFLOW_FILES)
def test_workflow_file_that_is_a_bomb_is_refused(case, fence, tmp_path):
    path = tmp_path / "models" / "graph.json"
    path.write_text(WORKFLOW_FILES[case])
    refused(lambda: workflow_file.read_workflow(path), "graph.json", errors.WorkflowError)


SETTINGS = {
    "run name": ("8.run_name=../../outside/x", "plain name"),
    "node path": ("../../outside.x=1", "no node"),
    "attribute": ("8.__class__=x", "no input"),
    "class": ("8.class_type=os.system", "no input"),
    "NaN": ("8.learning_rate=NaN", "must be a number"),
    "number bomb": ("8.steps=" + "9" * 10_000, "above the maximum|whole number"),
    "brackets": ("8.steps=" + "[" * 100_000, "whole number|must be|link"),
    "link to itself": ('8.model=["8", 0]', "cycle"),
    "no value": ("8.steps", "NODE.INPUT=VALUE"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_setting_of_the_command_line_is_checked_like_a_file(case, fence):
    setting, message = SETTINGS[case]

    def work():
        workflow.run_workflow(workflow_file.apply_settings(graph(), [setting], NODES), NODES)

    with pytest.raises(errors.WorkflowError, match=message) as caught:
        work()
    assert all(len(line) < 1500 for line in str(caught.value).splitlines())
    assert list(fence.folders.output.iterdir()) == []
