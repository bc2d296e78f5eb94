"""Values of any kind and size: every hook of every node stands them."""

from __future__ import annotations

import json
import os

import pytest
from counting import touches
from loaded_pack import PACK, submodule

declared = submodule("nodes.checks.declared")
errors = submodule("gdpo.errors")
guard = submodule("nodes.checks.guard")
live = submodule("nodes.comfy.live")
training_node = submodule("nodes.train")
paths = submodule("nodes.checks.paths")
plot_node = submodule("nodes.plot_convergence")
to_json = submodule("gdpo.to_json").to_json

NODES = PACK.NODE_CLASS_MAPPINGS
PLOT = NODES["GDPOPlotConvergence"]

DEEP: object = []
for _ in range(20_000):
    DEEP = [DEEP]
VALUES = {
    "list": ["a", "b", "c"],
    "link": ["1", 0],
    "object": {"a": 1},
    "nothing": None,
    "truth": True,
    "infinity": float("1e400"),
    "no number": float("nan"),
    "digits": 10**5000,
    "bytes": b"a",
    "deep": DEEP,
    "megabyte": "x" * 10**6,
    "megabytes": "x" * 10**7,
    "commas": "," * 10**6,
    "half a million names": ",".join(map(str, range(500_000))),
    "one name half a million times": "a," * 500_000,
    "spaces": " " * 10**6,
    "half a character": "\ud800",
    "NUL": "a\0b",
    "controls": "\x1b[2J\r\n\u202e",
    "path": "../../etc/passwd",
}


def is_line(text: object) -> bool:
    return isinstance(text, str) and text.isprintable() and len(text) < 1500


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize("hook", ["VALIDATE_INPUTS", "IS_CHANGED"])
def test_hooks_of_the_host_answer_any_value_with_a_line(hook, case, folders):
    for node_class in NODES.values():
        for name in declared.declared_inputs(node_class):
            ask = getattr(node_class, hook, None)
            if ask is None or (hook == "VALIDATE_INPUTS" and name not in ask.__code__.co_varnames):
                continue
            answer = ask(**{name: VALUES[case]})
            assert answer is True or isinstance(answer, float) or is_line(answer)


@pytest.mark.parametrize("case", VALUES)
def test_any_value_of_any_input_is_taken_or_refused_with_a_line(case, folders):
    for node_class in NODES.values():
        for one in declared.declared_inputs(node_class).values():
            try:
                one.check(VALUES[case])
            except errors.WorkflowError as error:
                message = str(error)
            else:
                message = ""
            assert is_line(message)


@pytest.mark.parametrize("case", VALUES)
def test_nodes_that_need_no_other_take_or_refuse_any_text_with_a_line(case, folders):
    reads = {"GDPOLoadModel": "hub_model", "GDPOLoadPrompts": "file"}
    reads |= {"GDPOPlotConvergence": "saved_runs"}
    reads |= {node_id: "name" for node_id in NODES if node_id.startswith("GDPODefineReward")}
    for node_id, name in reads.items():
        given = {"model": "starter (bundled)"} if name == "hub_model" else {}
        if name == "hub_model" and case in {"nothing", "spaces"}:
            continue  # they mean the bundled model
        try:
            getattr(NODES[node_id](), NODES[node_id].FUNCTION)(**given, **{name: VALUES[case]})
        except errors.GDPOError as error:
            message = str(error)
        else:
            message = ""
        assert is_line(message)


MANY = ["megabyte", "megabytes", "commas", "half a million names", "one name half a million times"]


@pytest.mark.parametrize("case", [*MANY, "list", "object", "digits", "deep", "spaces"])
def test_too_many_saved_runs_are_refused_before_any_path_is_touched(case, folders):
    named = VALUES[case]
    assert not touches(lambda: PLOT.IS_CHANGED(saved_runs=named))
    with pytest.raises(errors.WorkflowError, match=r"^saved_runs ") as caught:
        list(plot_node._saved_folders(named))
    assert is_line(str(caught.value))


def test_five_names_are_refused_before_any_path_is_touched(folders):
    assert not touches(lambda: PLOT.IS_CHANGED(saved_runs="a,b,c,d,e"))
    assert PLOT.IS_CHANGED(saved_runs="a,b,c,d,e").startswith("saved_runs should name 4 runs")


def test_the_longest_names_fit_into_saved_runs(folders):
    names = [f"{k}" * paths.MAX_NAME for k in range(plot_node.MAX_RUNS)]
    for name in names:
        (folders.output / "gdpo" / name).mkdir(parents=True)
        (folders.output / "gdpo" / name / "history.jsonl").touch()
    assert len(list(plot_node._saved_folders(" , ".join(names)))) == plot_node.MAX_RUNS


def test_prompts_that_went_away_are_named(folders, monkeypatch):
    file = folders.inputs / "a.txt"
    file.touch()
    node_class = NODES["GDPOLoadPrompts"]
    inputs = node_class.INPUT_TYPES()
    monkeypatch.setattr(node_class, "INPUT_TYPES", lambda: inputs)
    os.remove(file)
    assert node_class.IS_CHANGED(file="a.txt") == 0.0
    with pytest.raises(errors.WorkflowError, match=r"no prompt file 'a\.txt' any more"):
        node_class().load(file="a.txt")


@pytest.mark.parametrize("case", VALUES)
def test_the_graphs_id_in_a_workflow_may_be_anything(case):
    value = VALUES[case]
    for page in (value, {"workflow": value}, {"workflow": {"id": value}}):
        found = training_node._graph_id(page)
        assert found is None or (isinstance(found, str) and len(found) <= 64)


@pytest.mark.parametrize("case", VALUES)
def test_the_live_chart_takes_any_node_and_any_text(case):
    """The page gets strict JSON, and of a long text only its beginning."""
    sent = []
    pages = {"page": object()}
    about = {"node": VALUES[case] if case != "deep" else "8", "run": "r", "steps": 1}
    told = live.LiveRun(about, [], lambda *message: sent.append(message), lambda: pages)
    text = VALUES[case] if isinstance(VALUES[case], str) else ""
    sample = {"step": 1, "prompt": text, "completion": text, "rewards": {"a": 1.0}}
    told.phase("sampling", 0, 1)
    told.record({"step": 1, "truncated": 0.0, "sample": sample})
    for _, message, _ in sent:
        written = json.dumps(to_json({**message, "node": None}), allow_nan=False)
        assert len(written) < 20_000
