"""Checks a workflow in the API format against the node classes, before any node runs.

As ComfyUI does, only what an output node needs must be complete; unlike ComfyUI, one fault refuses
the whole workflow, unknown inputs are named instead of dropped, and no value is bent to fit.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...gdpo.errors import WorkflowError, shorten
from ...gdpo.printable import printable
from .values import WIDGET_TYPES, InputType, check_value, links_to, split_types

logger = logging.getLogger(__name__)

Graph = Mapping[str, Mapping]

_ABSENT = object()


@dataclass(frozen=True)
class Declared:
    """One input as its node class declares it."""

    kind: InputType
    options: Mapping[str, object]
    required: bool

    @property
    def type_name(self) -> str:
        """The type in words."""
        return self.kind if isinstance(self.kind, str) else "COMBO"

    def check(self, value: object) -> object:
        """The literal `value` as the node gets it; see `values.check_value`."""
        return check_value(self.kind, self.options, value)


def declared_inputs(node_class: type) -> dict[str, Declared]:
    """The visible inputs of a node class, in their order."""
    types = node_class.INPUT_TYPES()
    return {
        name: Declared(spec[0], spec[1] if len(spec) > 1 else {}, group == "required")
        for group in ("required", "optional")
        for name, spec in types.get(group, {}).items()
    }


def is_link(value: object) -> bool:
    """Whether an input's value has the form of a link: `["node id", output number]`."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
        and not isinstance(value[1], bool)
    )


def node_label(node_id: str, class_type: object) -> str:
    """How messages name a node: `node 4 (GDPOTrain)`. Both words come from the file."""
    plain = isinstance(class_type, str) and re.fullmatch(r"[\w .:|/()+-]{1,80}", class_type)
    shown_id = node_id if re.fullmatch(r"[\w.:-]{1,40}", node_id) else shorten(node_id, 40)
    return f"node {shown_id} ({class_type if plain else shorten(class_type)})"


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, else the empty text."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_workflow(graph: Graph, classes: Mapping[str, type]) -> tuple[str, ...]:
    """The ids of the nodes to run, each after what it needs.

    Args:
        graph: the workflow.
        classes: node class by name.

    Returns:
        The order in which to run them; nodes that no output node needs are left out.

    Raises:
        WorkflowError: the workflow is not valid; one line per problem.
    """
    problems = [text for key, node in graph.items() for text in _node_problems(key, node, classes)]
    usable = {
        key: node for key, node in graph.items() if not any(_node_problems(key, node, classes))
    }
    outputs = [
        key for key in usable if getattr(classes[usable[key]["class_type"]], "OUTPUT_NODE", False)
    ]
    if not outputs and len(usable) == len(graph):
        problems.append("the workflow has no output node, so nothing would run; add one")
    order, cycles = _order(usable, outputs, classes)
    problems += [f"the links form a cycle: {cycle}; cut one of them" for cycle in cycles]
    problems += [text for key in order for text in _input_problems(key, graph, usable, classes)]
    if problems:
        raise WorkflowError("\n".join(map(printable, problems)))
    for key in usable.keys() - set(order):
        logger.warning("%s: no output node needs it, it does not run", _label(graph, key))
    return tuple(order)


def _label(graph: Graph, node_id: str) -> str:
    return node_label(node_id, graph[node_id]["class_type"])


def _node_problems(node_id: str, node: object, classes: Mapping[str, type]) -> Iterator[str]:
    """What is wrong with the node itself, its links and values aside."""
    if not isinstance(node, Mapping) or not isinstance(node.get("class_type"), str):
        yield f"node {shorten(node_id, 40)}: has no class_type; is this file in the API format?"
        return
    label = node_label(node_id, node["class_type"])
    if node["class_type"] not in classes:
        yield f"{label}: unknown node class{suggestion(node['class_type'], classes)}"
    if not isinstance(node.get("inputs", {}), Mapping):
        yield f"{label}: inputs must be an object, found {shorten(node['inputs'])}"


def _links(node: Mapping, known: Iterable[str]) -> Iterator[str]:
    """The node ids that the declared inputs of `node` are linked to."""
    inputs = node.get("inputs", {})
    return (inputs[name][0] for name in known if name in inputs and is_link(inputs[name]))


def _order(
    graph: Graph, outputs: Iterable[str], classes: Mapping[str, type]
) -> tuple[list[str], list[str]]:
    """The nodes that the outputs need, each after what it needs, and the cycles found on the way.

    Depth first without recursion: a file may hold a very long chain.
    """
    order: list[str] = []  # a node stands here once it is finished
    cycles: list[str] = []
    finished: set[str] = set()
    path: dict[str, Iterator[str]] = {}  # nodes being visited, each with its links still to follow

    def enter(node_id: str) -> None:
        if node_id in graph and node_id not in finished:
            known = declared_inputs(classes[graph[node_id]["class_type"]])
            path[node_id] = _links(graph[node_id], known)

    for output in outputs:
        enter(output)
        while path:
            current = next(reversed(path))
            source = next(path[current], None)
            if source is None:
                order.append(current)
                finished.add(current)
                del path[current]
            elif source in path:
                visited = list(path)
                ring = [source, *reversed(visited[visited.index(source) :])]
                cycles.append(" -> ".join(shorten(key, 40) for key in ring))
            else:
                enter(source)
    return order, cycles


def _input_problems(
    node_id: str, graph: Graph, usable: Graph, classes: Mapping[str, type]
) -> Iterator[str]:
    """What is wrong with the inputs of a node that is to run."""
    node_class = classes[graph[node_id]["class_type"]]
    inputs = graph[node_id].get("inputs", {})
    known = declared_inputs(node_class)
    label = _label(graph, node_id)
    sources = {
        key: classes[usable[key]["class_type"]].RETURN_TYPES if key in usable else None
        for key in graph
    }
    faults = [
        f"{label}, input {name!r}: {problem}"
        for name, declared in known.items()
        if (problem := _input_problem(inputs.get(name, _ABSENT), declared, sources))
    ]
    faults += [
        f"{label}: no input {shorten(name)}{suggestion(name, known)}"
        for name in inputs
        if name not in known
    ]
    yield from faults or (f"{label}: {text}" for text in _own_problems(node_class, inputs, known))


def _input_problem(
    value: object, declared: Declared, sources: Mapping[str, Sequence[InputType] | None]
) -> str | None:
    """What is wrong with one input; `sources` holds each node's output types (None: unknown)."""
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


def _link_problem(
    link: list, declared: Declared, sources: Mapping[str, Sequence[InputType] | None]
) -> str | None:
    source, number = link
    if source not in sources:
        return f"linked to node {shorten(source, 40)}, which is not in the workflow"
    types = sources[source]
    if types is None:
        return None  # that node's own line says what is wrong
    if number not in range(len(types)):
        return f"linked to output {number} of node {shorten(source, 40)}, which has {len(types)}"
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
