"""Checks a workflow in the API format against the node classes, before any node runs.

As ComfyUI does, only what an output node needs must be complete; unlike ComfyUI, one fault refuses
the whole workflow, unknown inputs are named instead of dropped, and no value is bent to fit.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from ...gdpo.errors import WorkflowError, shorten
from .declared import Declared, Graph, declared_inputs, is_link, node_label
from .order import Cycle, run_order
from .problems import MAX_PROBLEMS, Problem, refuse
from .values import WIDGET_TYPES, InputType, links_to, split_types

logger = logging.getLogger(__name__)

# A limit for files from strangers: the largest workflows that people share have some hundred nodes.
MAX_NODES = 10_000

_ABSENT = object()

# Each node's output types; None where its class is not known.
Sources = Mapping[str, Sequence[InputType] | None]


class Classes:
    """The node classes, each asked for its inputs once."""

    def __init__(self, classes: Mapping[str, type]) -> None:
        self.known = classes
        self._inputs = cache(declared_inputs)

    def of(self, node: Mapping) -> type:
        """The class of a node whose class is known."""
        return self.known[node["class_type"]]

    def inputs(self, node: Mapping) -> dict[str, Declared]:
        """The declared inputs of a node whose class is known."""
        return self._inputs(self.of(node))


def check_workflow(graph: Graph, classes: Mapping[str, type]) -> tuple[str, ...]:
    """The ids of the nodes to run, each after what it needs.

    Args:
        graph: The workflow.
        classes: Node class by name.

    Returns:
        The order in which to run them; nodes that no output node needs are left out.

    Raises:
        WorkflowError: The workflow is not valid; one line per problem, and how many more there are.
    """
    if len(graph) > MAX_NODES:
        raise WorkflowError(
            f"the workflow has {len(graph)} nodes, more than the {MAX_NODES} that one may have; split it"
        )
    known = Classes(classes)
    faults = {key: list(_node_problems(key, node, classes)) for key, node in graph.items()}
    usable = {key: node for key, node in graph.items() if not faults[key]}
    outputs = [key for key in usable if getattr(known.of(usable[key]), "OUTPUT_NODE", False)]
    order, cycles = run_order(usable, outputs, known.inputs)
    refuse(_problems(graph, usable, known, faults, outputs, order, cycles))
    needed = set(order)
    unused = [key for key in usable if key not in needed]
    for key in unused[:MAX_PROBLEMS]:
        logger.warning("%s: no output node needs it, it does not run", _label(graph, key))
    if len(unused) > MAX_PROBLEMS:
        logger.warning("... and %d more nodes do not run", len(unused) - MAX_PROBLEMS)
    return tuple(order)


def _problems(
    graph: Graph,
    usable: Graph,
    classes: Classes,
    faults: Mapping[str, Sequence[Problem]],
    outputs: Sequence[str],
    order: Sequence[str],
    cycles: Sequence[Cycle],
) -> Iterator[Problem | Cycle | str]:
    """All problems: of the nodes themselves, of the graph, and of the inputs of nodes that are to run."""
    for found in faults.values():
        yield from found
    if not outputs and len(usable) == len(graph):
        yield "the workflow has no output node, so nothing would run; add one"
    yield from cycles
    sources: Sources = {
        key: classes.of(usable[key]).RETURN_TYPES if key in usable else None for key in graph
    }
    for key in order:
        yield from _input_problems(_label(graph, key), graph[key], classes, sources)


def _label(graph: Graph, node_id: str) -> str:
    return node_label(node_id, graph[node_id]["class_type"])


def _node_problems(node_id: str, node: object, classes: Mapping[str, type]) -> Iterator[Problem]:
    """What is wrong with the node itself, its links and values aside."""
    if not isinstance(node, Mapping) or not isinstance(node.get("class_type"), str):
        place = f"node {shorten(node_id, 40)}"
        yield Problem(place, "has no class_type; is this file in the API format?")
        return
    label = node_label(node_id, node["class_type"])
    if node["class_type"] not in classes:
        yield Problem(label, "unknown node class", node["class_type"], classes)
    if not isinstance(node.get("inputs", {}), Mapping):
        yield Problem(label, f"inputs must be an object, found {shorten(node['inputs'])}")


def _input_problems(
    label: str, node: Mapping, classes: Classes, sources: Sources
) -> Iterator[Problem]:
    """What is wrong with the inputs of a node that is to run."""
    inputs, known, faulty = node.get("inputs", {}), classes.inputs(node), False
    for name, declared in known.items():
        if text := _input_problem(inputs.get(name, _ABSENT), declared, sources):
            faulty = True
            yield Problem(f"{label}, input {name!r}", text)
    for name in inputs:
        if name not in known:
            faulty = True
            yield Problem(label, f"no input {shorten(name)}", name, known)
    if not faulty:
        for text in _own_problems(classes.of(node), inputs, known):
            yield Problem(label, text)


def _input_problem(value: object, declared: Declared, sources: Sources) -> str | None:
    """What is wrong with one input."""
    if value is _ABSENT:
        is_widget = bool(split_types(declared.kind) & WIDGET_TYPES)
        what = "a value" if is_widget else f"a link from an output of type {declared.type_name}"
        return f"is required; give it {what}" if declared.required else None
    if is_link(value):
        return _link_problem(value, declared, sources)
    if isinstance(value, list):
        return f'a link is written ["node id", output number], found {shorten(value)}'
    try:
        declared.check(value)
    except WorkflowError as error:
        return str(error)
    return None


def _link_problem(link: list, declared: Declared, sources: Sources) -> str | None:
    source, number = link
    if source not in sources:
        return f"linked to node {shorten(source, 40)}, which is not in the workflow"
    types = sources[source]
    if types is None:
        return None  # that node's own line says what is wrong
    if number not in range(len(types)):
        where = f"output {shorten(number, 40)} of node {shorten(source, 40)}"
        return f"linked to {where}, which has {len(types)}"
    given = types[int(number)]
    if not links_to(given, declared.kind):
        given = given if isinstance(given, str) else "COMBO"
        return f"takes {declared.type_name}, but is linked to {given} of node {shorten(source, 40)}"
    return None


def _own_problems(
    node_class: type, inputs: Mapping[str, object], known: Mapping[str, Declared]
) -> Iterator[str]:
    """What the class's own VALIDATE_INPUTS says of its literal values, as ComfyUI asks it."""
    validate = getattr(node_class, "VALIDATE_INPUTS", None)
    if validate is None:
        return
    names = inspect.signature(validate).parameters
    literals = {
        name: None if is_link(value) else known[name].check(value)
        for name, value in inputs.items()
        if name in names
    }
    verdict = validate(**literals)
    if verdict is not True:
        yield str(verdict)
