"""Workflow files and settings of strangers: each is taken, or refused with one line, before any work."""

from __future__ import annotations

import json
import os

import pytest
from hostile_graphs import TEXTS, node, reward
from loaded_pack import PACK, submodule

errors = submodule("gdpo.errors")
json_text = submodule("nodes.headless.json_text")
validation = submodule("nodes.checks.validation")
workflow_file = submodule("nodes.headless.workflow_file")

NODES = PACK.NODE_CLASS_MAPPINGS


def refusal(work) -> str:
    """The line with which `work` is refused; nothing in it moves a cursor, and it fits on a page."""
    with pytest.raises(errors.WorkflowError) as caught:
        work()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 3000
    return message


def nested(depth: int) -> str:
    return '{"a":' * (depth - 1) + "[]" + "}" * (depth - 1)


def test_a_file_is_refused_by_its_size_before_it_is_parsed(tmp_path, monkeypatch):
    path = tmp_path / "graph.json"
    path.touch()
    os.truncate(path, workflow_file.MAX_FILE_BYTES + 1)
    monkeypatch.setattr(workflow_file, "parse_json", None)
    message = refusal(lambda: workflow_file.read_workflow(path))
    assert "graph.json: cannot be read (it has more than 16 MiB)" in message


@pytest.mark.skipif(os.name != "posix", reason="pipes have names on POSIX")
def test_a_pipe_which_would_never_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "graph.json")
    message = refusal(lambda: workflow_file.read_workflow(tmp_path / "graph.json"))
    assert "cannot be read (it is a named pipe, not a file); name a JSON file" in message


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "x/" * 5000, "\x1b[2J\n", "\udcff", "."])
def test_a_name_of_no_file_is_refused(name, tmp_path):
    refusal(lambda: workflow_file.read_workflow(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (nested(json_text.MAX_DEPTH + 1), "nested too deeply"),
        (nested(600), "nested too deeply"),
        (nested(100_000), "nested too deeply"),
        ("9" * 401, "a number has 401 digits, at most 400 are taken"),
        ("-" + "9" * 1_000_000, "a number has 1000001 digits"),
        ("[1e999]", "the number '1e999' is too large for a float"),
        ('{"a": {"b": 1, "b": 2}}', "'b' stands twice in one object"),
        ('{"%s": 1, "%s": 2}' % (("x" * 10**6,) * 2), "stands twice in one object"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
    ],
)
def test_json_is_read_strictly_and_within_bounds(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        json_text.parse_json(text)
    (tmp_path / "graph.json").write_text(text)
    refusal(lambda: workflow_file.read_workflow(tmp_path / "graph.json"))


def test_json_within_the_bounds_is_read_as_the_standard_library_reads_it():
    for text in (
        nested(json_text.MAX_DEPTH),
        "[" * 64 + "1" + "]" * 64,
        "9" * 400,
        "[1e308, -1.5]",
        '{"a": "\\ud800"}',
        "0",
    ):
        assert json_text.parse_json(text) == json.loads(text)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "graph.json").write_text('{"1": {}}', encoding="utf-8-sig")
    assert workflow_file.read_workflow(tmp_path / "graph.json") == {"1": {}}


GRAPH = {
    **{str(k): reward() for k in range(200)},
    "list": {"class_type": reward()["class_type"], "inputs": [1]},
    "nothing": {"class_type": reward()["class_type"], "inputs": None},
    "class": node(["GDPOTrain"]),
    "other": node("Unknown"),
    "text": "x",
    "run": node("GDPOTrain", run_name="a", steps=1),
}
VALUES = [
    *("1e999", "9" * 5000, "-" + "9" * 400, "NaN", "Infinity", "[" * 100_000, nested(500)),
    *('"\\ud800"', '{"a": 1, "a": 2}', '["run", 1e999]', '["run", 0]', "null", "", "=", "="),
    *TEXTS.values(),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:12])
def test_any_value_is_set_or_refused_by_the_check(value):
    for name in ("steps", "run_name", "learning_rate", "existing_run", "heldout"):
        graph = workflow_file.apply_settings(GRAPH, [f"run.{name}={value}"], NODES)
        with pytest.raises(errors.WorkflowError) as caught:
            validation.check_workflow(graph, NODES)
        assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("form", ["{}", "{}.{}={}", "{}.x=1", "run.{}=1", "class.{}=1", ".{}=1"])
def test_any_node_and_input_is_found_or_refused_with_one_line(form, text):
    setting = form.format(text, text, text)
    if form == "class.{}=1" and text:  # the check refuses its class
        assert workflow_file.apply_settings(GRAPH, [setting], NODES)["class"]["inputs"] == {text: 1}
    else:
        refusal(lambda: workflow_file.apply_settings(GRAPH, [setting], NODES))


@pytest.mark.parametrize("node_id", ["list", "nothing"])
def test_inputs_that_are_no_object_cannot_be_set(node_id):
    message = refusal(lambda: workflow_file.apply_settings(GRAPH, [f"{node_id}.name=x"], NODES))
    assert f"inputs of node {node_id} must be an object, found " in message


def test_nothing_is_set_where_one_setting_is_refused():
    before = json.dumps(GRAPH)
    refusal(lambda: workflow_file.apply_settings(GRAPH, ["run.steps=5", "run.stepz=5"], NODES))
    workflow_file.apply_settings(GRAPH, ["run.steps=5", "0.name=x"], NODES)
    assert json.dumps(GRAPH) == before


def test_the_last_setting_of_an_input_counts():
    changed = workflow_file.apply_settings(GRAPH, ["run.steps=5", "run.steps=6"], NODES)
    assert changed["run"]["inputs"] == {"run_name": "a", "steps": 6}


def test_a_workflow_with_a_deep_value_is_copied():
    """A value at the depth that reading allows breaks nothing that follows."""
    graph = {**GRAPH, "deep": node("Unknown", x=json.loads(nested(600)))}
    assert workflow_file.apply_settings(graph, ["run.steps=5"], NODES)["deep"] is graph["deep"]
