"""The workflow engine, on small node classes: it means what ComfyUI means."""

from __future__ import annotations

import pytest
from loaded_pack import submodule
from small_nodes import RAN, node, run, settings, shown

errors = submodule("gdpo.errors")


def test_each_node_runs_once_after_what_it_needs():
    graph = {
        "9": shown("3"),
        "3": node("Add", a=["1", 0], b=["2", 0]),
        "2": node("Add", a=["1", 0]),
        "1": node("Number", value=4),
        "8": shown("1", 1),
    }
    outcomes = run(graph)
    assert RAN == ["number 4", "add []", "add ['b']", "show 9", "show 8"]
    assert outcomes["3"].outputs == (8,)
    assert outcomes["9"].ui["text"] == ["8"]
    assert outcomes["8"].ui["text"] == ["note 4"]


def test_only_what_an_output_node_needs_runs_or_must_be_complete(caplog):
    graph = {
        "1": node("Number", value=4),
        "9": shown(),
        "5": node("Add"),
        "6": node("Number", value=3),
    }
    run(graph)
    assert RAN == ["number 4", "show 9"]
    assert "node 5 (Add): no output node needs it, it does not run" in caplog.text


def test_absent_optional_inputs_are_not_passed():
    run({
        "1": node("Number", value=1),
        "2": node("Add", a=["1", 0], note=["1", 1]),
        "9": shown("2"),
    })
    assert "add ['note']" in RAN


def test_hidden_inputs_are_given():
    graph = {"1": node("Number", value=1), "x:9": shown()}
    outcome = run(graph)["x:9"]
    assert RAN[-1] == "show x:9"
    assert outcome.ui["nodes"] == [2]
    assert outcome.ui["png"] == [{}]


def test_hidden_inputs_cannot_be_set_by_the_file():
    graph = {"1": node("Number", value=1), "9": node("Show", value=["1", 0], unique_id="../x")}
    with pytest.raises(errors.WorkflowError, match="no input 'unique_id'"):
        run(graph)


def test_values_are_taken_as_comfyui_takes_them():
    graph = settings(label=5, rate=1, steps=3.0, amount=2.5, anything={"a": [1]})
    assert run(graph)["1"].outputs[0] == {
        "label": "5",
        "mode": "fast",
        "rate": 1.0,
        "steps": 3,
        "amount": 2.5,
        "anything": {"a": [1]},
    }


def test_union_and_any_types_may_be_linked():
    graph = {
        "1": node("Number", value=1),
        "2": node("Add", a=["1", 0], note=["1", 1], any=["1", 1]),
        "9": shown("2"),
    }
    assert run(graph)["2"].outputs == (1,)


def test_links_of_a_linked_choice_are_not_literals():
    graph = {"1": node("Number", value=3), "9": node("Picky", value=["1", 0])}
    assert run(graph)["9"].ui["text"] == ["3"]


def test_error_of_a_node_names_the_node_and_keeps_its_kind():
    graph = {"1": node("Fails", value=1), "9": shown()}
    with pytest.raises(errors.RewardError, match=r"^node 1 \(Fails\): no reward today$"):
        run(graph)


def test_missing_outputs_of_a_node_are_an_error():
    graph = {"1": node("Forgetful", value=1), "9": shown()}
    with pytest.raises(
        errors.WorkflowError, match=r"node 1 \(Forgetful\): returned \(1,\) where 2"
    ):
        run(graph)


def test_poll_may_stop_between_nodes():
    class Stop(Exception):
        pass

    polls = iter([None, None])

    def poll():
        if next(polls, "stop") == "stop":
            raise Stop

    graph = {"1": node("Number", value=1), "2": node("Add", a=["1", 0]), "9": shown("2")}
    with pytest.raises(Stop):
        run(graph, poll=poll)
    assert RAN == ["number 1", "add []"]
