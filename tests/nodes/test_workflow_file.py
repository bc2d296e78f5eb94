"""Workflow files that are refused, and settings of the command line."""

from __future__ import annotations

import re

import pytest
from loaded_pack import submodule
from small_nodes import CLASSES, apply, node, run, settings, shown, titled

workflow_file = submodule("nodes.headless.workflow_file")
errors = submodule("gdpo.errors")

FILES = {
    "not there": (None, "cannot be read"),
    "no JSON": ("{", "not valid JSON (Expecting property name"),
    "NaN": (
        '{"1": {"class_type": "Number", "inputs": {"value": NaN}}}',
        "NaN is not a JSON number",
    ),
    "no object": ("[1, 2]", "a workflow is a JSON object, found [1, 2]"),
    "empty": ("{}", "the workflow has no nodes"),
    "page format": ('{"nodes": [], "links": [], "version": 0.4}', "choose Workflow > Export (API)"),
    "id twice": ('{"1": {}, "1": {}}', "'1' stands twice in one object"),
    "too deep": ("[" * 100_000, "nested too deeply"),
    "no text": (b"\xff\xfe\x00", "not valid JSON"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_file_is_refused_with_one_line(case, tmp_path):
    content, message = FILES[case]
    path = tmp_path / "graph.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(errors.WorkflowError, match=re.escape(message)) as caught:
        workflow_file.read_workflow(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)


def test_a_setting_for_no_node_names_some_of_many(caplog):
    graph = {str(number): node("Number", value=1) for number in range(5000)}
    with pytest.raises(errors.WorkflowError) as caught:
        workflow_file.apply_settings(graph, ["x.value=1"], CLASSES)
    assert str(caught.value).startswith("--set 'x.value=1': no node 'x'; the nodes are 0, 1, 2,")
    assert str(caught.value).endswith(", 48, 49, ...")


def test_settings_replace_inputs_by_id_and_by_title_in_a_copy():
    graph = {
        "1": titled("Settings", "My.Settings", label="x", mode="fast"),
        "2": titled("Number", "Twice", value=1),
        "3": titled("Number", "Twice", value=1),
        "9": shown("2"),
    }
    changed = apply(
        graph, "1.rate=0.5", "My.Settings.mode=slow", "1.label=1.0", "2.value=7", "1.exact=true"
    )
    assert changed["1"]["inputs"] == {"label": "1.0", "mode": "slow", "rate": 0.5, "exact": True}
    assert changed["2"]["inputs"] == {"value": 7}
    assert graph["1"]["inputs"] == {"label": "x", "mode": "fast"}


def test_text_settings_keep_equal_signs_and_lose_json_quotes():
    graph = {"1": titled("Settings", "S", label="x", mode="fast")}
    assert apply(graph, "1.label=a=b")["1"]["inputs"]["label"] == "a=b"
    assert apply(graph, '1.label="quoted"')["1"]["inputs"]["label"] == "quoted"
    assert apply(graph, "1.label=")["1"]["inputs"]["label"] == ""
    assert apply(graph, "1.label=null")["1"]["inputs"]["label"] == "null"


def test_settings_may_set_a_link():
    graph = {"1": node("Number", value=1), "2": node("Number", value=2), "9": shown("1")}
    assert run(apply(graph, '9.value=["2", 0]'))["9"].ui["text"] == ["2"]


BAD_SETTINGS = {
    "1.value": "write NODE.INPUT=VALUE",
    "value=3": "write NODE.INPUT=VALUE",
    "7.value=3": "no node '7'; the nodes are 1, 2, 3",
    "Twice.value=3": "2 nodes have this title; use one of their ids: 1, 2",
    "1.valeu=3": "Number has no input 'valeu'; did you mean 'value'?",
    "3.x=1": "no node '3'",
}


@pytest.mark.parametrize("setting", BAD_SETTINGS)
def test_bad_setting_is_refused_with_one_line(setting):
    graph = {
        "1": titled("Number", "Twice", value=1),
        "2": titled("Number", "Twice", value=1),
        "3": "?",
    }
    with pytest.raises(errors.WorkflowError, match=re.escape(BAD_SETTINGS[setting])) as caught:
        apply(graph, setting)
    assert len(str(caught.value).splitlines()) == 1


def test_setting_not_a_number_is_refused_when_checked():
    graph = apply(settings(), "1.rate=NaN")
    with pytest.raises(errors.WorkflowError, match="must be a number, found 'NaN'"):
        run(graph)
