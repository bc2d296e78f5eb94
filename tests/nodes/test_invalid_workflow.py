"""What the check of a workflow refuses, and with which words."""

from __future__ import annotations

import json
import math

import pytest
from loaded_pack import submodule
from small_nodes import RAN, node, run, settings, shown

errors = submodule("gdpo.errors")

SURROGATE = json.loads('"\\ud800"')
INVALID = {
    "unknown class": (
        {"1": node("Numbre", value=1), "9": shown()},
        "node 1 (Numbre): unknown node class; did you mean 'Number'?",
    ),
    "no class": (
        {"1": {"inputs": {}}, "9": shown()},
        "node '1': has no class_type; is this file in the API format?",
    ),
    "node is no object": (
        {"1": 5, "9": node("Picky", value=1)},
        "node '1': has no class_type; is this file in the API format?",
    ),
    "inputs are no object": (
        {"1": {"class_type": "Number", "inputs": [1]}, "9": shown()},
        "node 1 (Number): inputs must be an object, found [1]",
    ),
    "missing value": (
        {"1": node("Number"), "9": shown()},
        "node 1 (Number), input 'value': is required; give it a value",
    ),
    "missing link": (
        {"9": node("Show"), "1": node("Number", value=1)},
        "node 9 (Show), input 'value': is required; give it a value",
    ),
    "unknown input": (
        settings(stepz=3),
        "node 1 (Settings): no input 'stepz'; did you mean 'steps'?",
    ),
    "unknown linked input": (
        {"1": node("Number", value=1, extra_9=["9", 0]), "9": shown()},
        "node 1 (Number): no input 'extra_9'",
    ),
    "link to nowhere": (
        {"9": shown("7")},
        "node 9 (Show), input 'value': linked to node '7', which is not in the workflow",
    ),
    "link to a missing output": (
        {"1": node("Number", value=1), "9": shown("1", 2)},
        "node 9 (Show), input 'value': linked to output 2 of node '1', which has 2",
    ),
    "link to a negative output": (
        {"1": node("Number", value=1), "9": shown("1", -1)},
        "node 9 (Show), input 'value': linked to output -1 of node '1', which has 2",
    ),
    "link with a number as node": (
        {"1": node("Number", value=1), "9": node("Show", value=[1, 0])},
        "node 9 (Show), input 'value': a link is written [\"node id\", output number], found [1, 0]",
    ),
    "wrong link type": (
        {"1": node("Number", value=1), "2": node("Add", a=["1", 1]), "9": shown("2")},
        "node 2 (Add), input 'a': takes INT, but is linked to NOTE of node '1'",
    ),
    "link to a menu": (
        {
            "1": node("Number", value=1),
            "2": node("Settings", label="x", mode=["1", 0]),
            "9": shown("2"),
        },
        "node 2 (Settings), input 'mode': takes COMBO, but is linked to INT of node '1'",
    ),
    "literal where a link belongs": (
        {"1": node("Number", value=1), "9": node("Show", value=["1", 0], extra="hello")},
        "node 9 (Show), input 'extra': needs a link from an output of type SETTINGS, found 'hello'",
    ),
    "text for a whole number": (
        settings(steps="5"),
        "node 1 (Settings), input 'steps': must be a whole number, found '5'",
    ),
    "fraction for a whole number": (
        settings(steps=3.9),
        "node 1 (Settings), input 'steps': must be a whole number, found 3.9",
    ),
    "truth for a whole number": (
        settings(steps=True),
        "node 1 (Settings), input 'steps': must be a whole number, found True",
    ),
    "null for a whole number": (
        settings(steps=None),
        "node 1 (Settings), input 'steps': must be a whole number, found None",
    ),
    "whole number too small": (
        settings(steps=0),
        "node 1 (Settings), input 'steps': 0 is below the minimum 1",
    ),
    "whole number too large": (
        settings(steps=10**9),
        "node 1 (Settings), input 'steps': 1000000000 is above the maximum 100",
    ),
    "text for a number": (
        settings(rate="nan"),
        "node 1 (Settings), input 'rate': must be a number, found 'nan'",
    ),
    "NaN": (
        settings(rate=math.nan),
        "node 1 (Settings), input 'rate': must be a finite number, found nan",
    ),
    "infinity": (
        settings(amount=-math.inf),
        "node 1 (Settings), input 'amount': must be a finite number, found -inf",
    ),
    "number beyond all numbers": (
        settings(rate=10**400),
        "node 1 (Settings), input 'rate': must be a finite number, found 1" + "0" * 78 + "…",
    ),
    "number out of range": (
        settings(rate=1.01),
        "node 1 (Settings), input 'rate': 1.01 is above the maximum 1.0",
    ),
    "text for a truth value": (
        settings(exact="false"),
        "node 1 (Settings), input 'exact': must be true or false, found 'false'",
    ),
    "number for a truth value": (
        settings(exact=1),
        "node 1 (Settings), input 'exact': must be true or false, found 1",
    ),
    "not in the menu": (
        settings(mode="medium"),
        "node 1 (Settings), input 'mode': 'medium' is not one of: fast, slow",
    ),
    "object for a text": (
        settings(label={"a": 1}),
        "node 1 (Settings), input 'label': must be text, found {'a': 1}",
    ),
    "list for a text": (
        settings(label=["a", "b", "c"]),
        "node 1 (Settings), input 'label': a link is written [\"node id\", output number], found ['a', 'b', 'c']",
    ),
    "NUL in a text": (
        settings(label="a\0b"),
        "node 1 (Settings), input 'label': holds NUL or half a surrogate pair: 'a\\x00b'",
    ),
    "half a character in a text": (
        settings(label=SURROGATE),
        "node 1 (Settings), input 'label': holds NUL or half a surrogate pair: '\\ud800'",
    ),
    "endless text": (
        settings(label="x" * 1_000_001),
        "node 1 (Settings), input 'label': has 1000001 characters, at most 1000000 are taken",
    ),
    "the node's own check": (
        {"9": node("Picky", value=5)},
        "node 9 (Picky): five is not wanted",
    ),
    "cycle": (
        {"1": node("Add", a=["2", 0]), "2": node("Add", a=["1", 0]), "9": shown()},
        "the links form a cycle: '1' -> '2' -> '1'; cut one of them",
    ),
    "node linked to itself": (
        {"1": node("Add", a=["1", 0]), "9": shown()},
        "the links form a cycle: '1' -> '1'; cut one of them",
    ),
    "no output node": (
        {"1": node("Number", value=1)},
        "the workflow has no output node, so nothing would run; add one",
    ),
    "strange node id": (
        {"../../x\n": node("Number", value=-1), "9": shown("../../x\n")},
        "node '../../x\\n' (Number), input 'value': -1 is below the minimum 0",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_workflow_is_refused_with_one_line_before_anything_runs(case):
    graph, message = INVALID[case]
    with pytest.raises(errors.WorkflowError) as caught:
        run(graph)
    assert str(caught.value) == message
    assert RAN == []


def test_every_problem_gets_its_own_line():
    graph = {
        "1": node("Number", value=99),
        "2": node("Numbre"),
        "3": node("Add", a=["2", 0], b="x"),
        "8": shown("1"),
        "9": shown("3"),
    }
    with pytest.raises(errors.WorkflowError) as caught:
        run(graph)
    assert str(caught.value).splitlines() == [
        "node 2 (Numbre): unknown node class; did you mean 'Number'?",
        "node 1 (Number), input 'value': 99 is above the maximum 9",
        "node 3 (Add), input 'b': must be a whole number, found 'x'",
    ]
