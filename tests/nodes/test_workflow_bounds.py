"""Work for a workflow grows with its size and not with its square, and no error is longer than a page."""

from __future__ import annotations

import contextlib

import pytest
from counting import steps
from hostile_graphs import COMBINE, REWARD, SHAPES, SOCKETS, TEXTS, node, reward, train, with_text
from loaded_pack import PACK, submodule

errors = submodule("gdpo.errors")
problems = submodule("nodes.checks.problems")
validation = submodule("nodes.checks.validation")
workflow_file = submodule("nodes.headless.workflow_file")

NODES = PACK.NODE_CLASS_MAPPINGS
MAX_CHARACTERS = 20_000


def counted_steps(work) -> int:
    """How many steps `work` takes until it is refused or done."""

    def until_refused():
        with contextlib.suppress(errors.WorkflowError):
            work()

    return steps(until_refused)


def refusal(work) -> str:
    with pytest.raises(errors.WorkflowError) as caught:
        work()
    return str(caught.value)


def assert_bounded(message: str) -> None:
    assert len(message.splitlines()) <= problems.MAX_PROBLEMS + 1
    assert len(message) <= MAX_CHARACTERS
    assert all(character.isprintable() or character in "\n\t" for character in message)


@pytest.mark.parametrize("shape", SHAPES)
def test_work_grows_with_the_size(shape):
    few, many = (SHAPES[shape](size) for size in (500, 4000))
    validation.check_workflow(*good())  # what is done once is done
    work = [counted_steps(lambda g=g: validation.check_workflow(g, NODES)) for g in (few, many)]
    assert work[1] <= 8.5 * work[0]


def good():
    made = {"r": reward(), "c": node(COMBINE, reward_1=["r", 0], method="gdpo")}
    plot = {"p": node("GDPOPlotConvergence", saved_runs="a")}
    made["c"]["inputs"] |= {"weighting": "directed", "dispersion_floor": 0.5}
    return {**made, **plot}, NODES


@pytest.mark.parametrize("shape", SHAPES)
def test_an_error_fits_on_a_page_whatever_the_workflow(shape):
    assert_bounded(refusal(lambda: validation.check_workflow(SHAPES[shape](5000), NODES)))


@pytest.mark.parametrize("kind", TEXTS)
def test_an_error_fits_on_a_page_whatever_the_texts(kind):
    assert_bounded(refusal(lambda: validation.check_workflow(with_text(TEXTS[kind]), NODES)))


class Written(str):
    """A text that counts how often it is written out."""

    count = 0

    def __repr__(self):
        Written.count += 1
        return super().__repr__()


def test_only_the_cycles_that_are_shown_are_written_out():
    """Thousands of cycles may go through one node whose id has megabytes."""
    sockets = range(1, SOCKETS + 1)
    heart = Written("a heart of thousands of cycles")
    graph = {"out": train("top"), "top": node(COMBINE, reward_1=[heart, 0])}
    graph[heart] = node(COMBINE, **{f"reward_{k}": [f"{k}", 0] for k in sockets})
    for k in sockets:
        graph[f"{k}"] = node(COMBINE, **{f"reward_{j}": [f"{k}_{j}", 0] for j in sockets})
        leaf = {f"reward_{i}": ["top", 0] for i in sockets}
        graph |= {f"{k}_{j}": node(COMBINE, **leaf) for j in sockets}
    Written.count = 0
    message = refusal(lambda: validation.check_workflow(graph, NODES))
    assert message.count("the links form a cycle") == problems.MAX_PROBLEMS
    assert 0 < Written.count <= 3 * problems.MAX_PROBLEMS


def test_settings_for_many_nodes_take_one_pass():
    def work(size):
        graph = {str(k): {**reward(), "_meta": {"title": f"title {k}"}} for k in range(size)}
        given = [f"title {k}.name=x" for k in range(size)]
        return counted_steps(lambda: workflow_file.apply_settings(graph, given, NODES))

    work(10)
    assert work(4000) <= 8.5 * work(500)


def test_settings_for_many_inputs_of_one_node_take_one_pass():
    def work(size):
        graph = {"1": node("Unknown", **{f"i{k}": k for k in range(size)})}
        given = [f"1.i{k}=x" for k in range(size)]
        return counted_steps(lambda: workflow_file.apply_settings(graph, given, NODES))

    assert work(4000) <= 8.5 * work(500)


def test_a_number_that_python_does_not_write_is_refused_where_a_text_belongs():
    graph = {"r": reward(), "c": node("GDPOPlotConvergence", saved_runs=10**5000)}
    message = refusal(lambda: validation.check_workflow(graph, NODES))
    assert message == (
        "node c (GDPOPlotConvergence), input 'saved_runs': must be text, found <int too large to show>"
    )


def test_a_value_that_is_nested_too_deeply_to_be_shown_is_refused():
    deep: object = []
    for _ in range(100_000):
        deep = [deep]
    message = refusal(lambda: validation.check_workflow({"c": node(REWARD, name=deep)}, NODES))
    assert "no output node" in message
    graph = {"c": node("GDPOPlotConvergence", saved_runs=deep)}
    message = refusal(lambda: validation.check_workflow(graph, NODES))
    assert message.endswith("found <list too large to show>")
