"""Workflows with very many nodes, faults or links."""

from __future__ import annotations

import pytest
from loaded_pack import submodule
from small_nodes import CLASSES, node, run, shown

validation = submodule("nodes.checks.validation")
problems = submodule("nodes.checks.problems")
errors = submodule("gdpo.errors")


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


def test_long_chain_neither_overflows_nor_takes_long():
    graph = {"0": node("Number", value=1)}
    for number in range(1, 3000):
        graph[str(number)] = node("Add", a=[str(number - 1), 0])
    graph["end"] = shown("2999")
    assert run(graph)["end"].ui["text"] == ["1"]
