"""The workflow engine, on small node classes: what it refuses, and that it means what ComfyUI means."""

from __future__ import annotations

import json
import math
import re

import pytest
from loaded_pack import submodule

workflow = submodule("nodes.headless.workflow")
workflow_file = submodule("nodes.headless.workflow_file")
validation = submodule("nodes.checks.validation")
problems = submodule("nodes.checks.problems")
errors = submodule("gdpo.errors")

RAN: list[str] = []


class Number:
    RETURN_TYPES = ("INT", "NOTE")
    FUNCTION = "give"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"default": 1, "min": 0, "max": 9})}}

    def give(self, value):
        RAN.append(f"number {value}")
        return (value, f"note {value}")


class Settings:
    RETURN_TYPES = ("SETTINGS",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"label": ("STRING", {}), "mode": (["fast", "slow"], {})},
            "optional": {
                "rate": ("FLOAT", {"min": 0.0, "max": 1.0}),
                "steps": ("INT", {"min": 1, "max": 100}),
                "exact": ("BOOLEAN", {}),
                "amount": ("INT,FLOAT", {}),
                "anything": ("*", {}),
            },
        }

    def make(self, **values):
        return (values,)


class Add:
    RETURN_TYPES = ("INT",)
    FUNCTION = "add"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"a": ("INT", {"forceInput": True})},
            "optional": {"b": ("INT", {}), "note": ("NOTE,STRING", {}), "any": ("*", {})},
        }

    def add(self, a, **others):
        RAN.append(f"add {sorted(others)}")
        return (a + others.get("b", 0),)


class Show:
    RETURN_TYPES = ()
    FUNCTION = "show"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"value": ("INT,NOTE,SETTINGS", {})},
            "optional": {"extra": ("SETTINGS", {})},
            "hidden": {"unique_id": "UNIQUE_ID", "graph": ("PROMPT",), "png": "EXTRA_PNGINFO"},
        }

    def show(self, value, unique_id, graph, png, extra=None):
        RAN.append(f"show {unique_id}")
        return {"ui": {"text": [str(value)], "nodes": [len(graph)], "png": [png]}}


class Picky(Show):
    @classmethod
    def VALIDATE_INPUTS(cls, value=None):
        return True if value is None or value != 5 else "five is not wanted"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {})}, "hidden": Show.INPUT_TYPES()["hidden"]}


class Fails(Number):
    def give(self, value):
        raise errors.RewardError("no reward today")


class Forgetful(Number):
    def give(self, value):
        return (value,)


CLASSES = {
    "Number": Number,
    "Settings": Settings,
    "Add": Add,
    "Show": Show,
    "Picky": Picky,
    "Fails": Fails,
    "Forgetful": Forgetful,
}


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def shown(source="1", output=0):
    return node("Show", value=[source, output])


def run(graph, **options):
    RAN.clear()
    return workflow.run_workflow(graph, CLASSES, **options)


def settings(**values):
    """A workflow whose only fault is in the given values."""
    return {"1": node("Settings", **{"label": "x", "mode": "fast", **values}), "9": shown()}


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


def many_faults(count: int) -> dict:
    unknown = {f"other_{number}": 1 for number in range(count)}
    return {"1": node("Number", value=3, **unknown), "9": shown()}


@pytest.mark.parametrize(
    ("count", "last"),
    [
        (problems.MAX_PROBLEMS, None),
        (problems.MAX_PROBLEMS + 1, "... and 1 more problem"),
        (5000, f"... and {5000 - problems.MAX_PROBLEMS} more problems"),
    ],
)
def test_an_error_shows_the_first_problems_and_counts_the_rest(count, last):
    with pytest.raises(errors.WorkflowError) as caught:
        run(many_faults(count))
    lines = str(caught.value).splitlines()
    expected = [f"node 1 (Number): no input 'other_{k}'" for k in range(problems.MAX_PROBLEMS)]
    assert lines == expected + ([last] if last else [])


def test_only_problems_that_are_shown_are_compared_with_the_known_names(monkeypatch):
    asked = []
    monkeypatch.setattr(problems, "suggestion", lambda name, known: asked.append(name) or "")
    with pytest.raises(errors.WorkflowError):
        run(many_faults(5000))
    assert len(asked) == problems.MAX_PROBLEMS


def test_a_workflow_with_too_many_nodes_is_refused_before_any_is_looked_at():
    graph = {str(number): None for number in range(validation.MAX_NODES)}
    with pytest.raises(errors.WorkflowError) as caught:
        run(graph)
    assert "has no class_type" in str(caught.value)
    with pytest.raises(errors.WorkflowError) as caught:
        run({**graph, "one more": None})
    assert str(caught.value) == (
        "the workflow has 10001 nodes, more than the 10000 that one may have; split it"
    )


class Counted(dict):
    """A workflow that counts how often it is gone through."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        return super().__iter__()

    def items(self):
        self.passes += 1
        return super().items()


def test_work_grows_with_the_nodes_and_not_with_their_square(monkeypatch):
    asked = []
    declared = validation.declared_inputs
    monkeypatch.setattr(
        validation, "declared_inputs", lambda kind: asked.append(kind) or declared(kind)
    )
    for size in (10, 1000):
        graph = Counted({"0": node("Number", value=1)})
        for number in range(1, size):
            graph[str(number)] = node("Add", a=[str(number - 1), 0])
        graph["end"] = shown(str(size - 1))
        asked.clear()
        assert len(validation.check_workflow(graph, CLASSES)) == size + 1
        assert graph.passes <= 3
        assert len(asked) == 3  # one for each class


def test_a_long_cycle_is_named_by_its_first_nodes():
    size = 500
    graph = {str(k): node("Add", a=[str((k + 1) % size), 0]) for k in range(size)}
    with pytest.raises(errors.WorkflowError) as caught:
        run({**graph, "9999": shown("0")})
    (line,) = str(caught.value).splitlines()
    assert line.startswith("the links form a cycle: '0' -> '499' -> '498'")
    assert line.endswith(" -> ... -> '0'; cut one of them")
    assert len(line) < 400


def test_many_unused_nodes_are_counted_in_the_log(caplog):
    graph = {str(number): node("Number", value=1) for number in range(70)}
    run({**graph, "end": shown("0")})
    lines = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == problems.MAX_PROBLEMS + 1
    assert lines[-1] == f"... and {69 - problems.MAX_PROBLEMS} more nodes do not run"


def test_a_setting_for_no_node_names_some_of_many(caplog):
    graph = {str(number): node("Number", value=1) for number in range(5000)}
    with pytest.raises(errors.WorkflowError) as caught:
        workflow_file.apply_settings(graph, ["x.value=1"], CLASSES)
    assert str(caught.value).startswith("--set 'x.value=1': no node 'x'; the nodes are 0, 1, 2,")
    assert str(caught.value).endswith(", 48, 49, ...")


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


def test_long_chain_neither_overflows_nor_takes_long():
    graph = {"0": node("Number", value=1)}
    for number in range(1, 3000):
        graph[str(number)] = node("Add", a=[str(number - 1), 0])
    graph["end"] = shown("2999")
    assert run(graph)["end"].ui["text"] == ["1"]


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


def titled(class_type, title, **inputs):
    return {**node(class_type, **inputs), "_meta": {"title": title}}


def apply(graph, *given):
    return workflow_file.apply_settings(graph, given, CLASSES)


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
