"""Runs a workflow saved in the API format as ComfyUI would, without ComfyUI.

A file is an object `{id: {"class_type": ..., "inputs": {name: value or [id, output number]}}}`.
What an output node needs is run, each node once, in the order of its links; optional inputs that
are absent are not passed. `checks/validation.py` has checked everything before the first node starts.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...gdpo.errors import GDPOError, WorkflowError, shorten
from ..checks.validation import (
    Graph,
    check_workflow,
    declared_inputs,
    is_link,
    node_label,
    suggestion,
)
from ..checks.values import split_types

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What one node gave: the values of its outputs, and what it would show in the page."""

    class_type: str
    outputs: tuple[object, ...]
    ui: Mapping[str, Sequence[object]]


def read_workflow(path: Path) -> Graph:
    """The graph in the file, as plain JSON.

    Args:
        path: a JSON file in ComfyUI's API format.

    Returns:
        Node id -> node; not yet checked against any node class.

    Raises:
        WorkflowError: the file cannot be read, is not JSON, or is not in the API format.
    """
    try:
        graph = json.loads(
            path.read_text(encoding="utf-8"),
            parse_constant=_refuse_constant,
            object_pairs_hook=_refuse_doubles,
        )
    except OSError as error:
        raise WorkflowError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise WorkflowError(f"{path}: not valid JSON ({reason})") from error
    if not isinstance(graph, dict):
        raise WorkflowError(f"{path}: a workflow is a JSON object, found {shorten(graph)}")
    if isinstance(graph.get("nodes"), list):
        raise WorkflowError(
            f"{path}: saved in the page's format; open it in ComfyUI, choose "
            "Workflow > Export (API), and run the file that this saves"
        )
    if not graph:
        raise WorkflowError(f"{path}: the workflow has no nodes")
    return graph


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _refuse_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shorten(double)} stands twice in one object")
    return found


def apply_settings(
    graph: Graph, settings: Sequence[str], classes: Mapping[str, type]
) -> dict[str, dict]:
    """A copy of the graph with inputs replaced.

    Args:
        graph: the workflow.
        settings: each `NODE.INPUT=VALUE`; NODE is a node's id, or its title where only one node has
            it. VALUE is read as JSON, else as text; for a text input it is always taken as written.
        classes: node class by name, to know which inputs are text.

    Returns:
        The changed copy.

    Raises:
        WorkflowError: a setting names no node, several nodes, or no input of its node.
    """
    changed = copy.deepcopy(dict(graph))
    for setting in settings:
        target, equals, text = setting.partition("=")
        name, dot, field = target.rpartition(".")
        if not (equals and dot and name and field):
            raise WorkflowError(f"--set {shorten(setting)}: write NODE.INPUT=VALUE")
        node = changed[_find_node(changed, name, setting)]
        known = (
            declared_inputs(classes[node["class_type"]]) if node["class_type"] in classes else {}
        )
        if known and field not in known:
            hint = suggestion(field, known)
            raise WorkflowError(
                f"--set {shorten(setting)}: {node['class_type']} has no input {field!r}{hint}"
            )
        is_text = field in known and split_types(known[field].kind) == {"STRING"}
        node.setdefault("inputs", {})[field] = _parse_setting(text, is_text)
    return changed


def _find_node(graph: Mapping[str, object], name: str, setting: str) -> str:
    def title(node: object) -> object:
        meta = node.get("_meta") if isinstance(node, dict) else None
        return meta.get("title") if isinstance(meta, dict) else None

    titled = [node_id for node_id, node in graph.items() if title(node) == name]
    found = [name] if name in graph else titled
    if len(found) > 1:
        raise WorkflowError(
            f"--set {shorten(setting)}: {len(found)} nodes have this title; "
            f"use one of their ids: {', '.join(found)}"
        )
    if not found or not isinstance(graph[found[0]], dict) or "class_type" not in graph[found[0]]:
        raise WorkflowError(
            f"--set {shorten(setting)}: no node {name!r}; the nodes are {', '.join(graph)}"
        )
    return found[0]


def _parse_setting(text: str, is_text: bool) -> object:
    """The value of a setting; quotes around a text are those of JSON and are taken off."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text
    return text if is_text and not isinstance(value, str) and not is_link(value) else value


def run_workflow(
    graph: Graph,
    classes: Mapping[str, type],
    *,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Outcome]:
    """What each node gave that an output node needs, in the order in which they ran.

    Args:
        graph: the workflow.
        classes: node class by name.
        poll: called before each node; may raise to stop.

    Returns:
        Node id -> outcome.

    Raises:
        WorkflowError: the workflow is not valid (one line per problem; nothing has run), or a node
            returned something else than it declares.
        GDPOError: a node failed; the message names the node.
    """
    outcomes: dict[str, Outcome] = {}
    for node_id in check_workflow(graph, classes):
        poll()
        node = graph[node_id]
        label = node_label(node_id, node["class_type"])
        logger.info("%s", label)
        try:
            outcomes[node_id] = _run_node(node_id, graph, classes, outcomes)
        except GDPOError as error:
            raise type(error)(f"{label}: {error}") from error
    return outcomes


def _run_node(
    node_id: str,
    graph: Graph,
    classes: Mapping[str, type],
    outcomes: Mapping[str, Outcome],
) -> Outcome:
    node = graph[node_id]
    node_class = classes[node["class_type"]]
    hidden = {"UNIQUE_ID": node_id, "PROMPT": graph, "EXTRA_PNGINFO": {}}
    values: dict[str, object] = {}
    for name, declared in declared_inputs(node_class).items():
        if name not in node.get("inputs", {}):
            continue
        value = node["inputs"][name]
        if is_link(value):
            source, number = value
            values[name] = outcomes[source].outputs[int(number)]
        else:
            values[name] = declared.check(value)
    for name, kind in node_class.INPUT_TYPES().get("hidden", {}).items():
        kind = kind[0] if isinstance(kind, tuple) else kind
        if kind in hidden:
            values[name] = hidden[kind]
    result = getattr(node_class(), node_class.FUNCTION)(**values)
    return _unpack(node["class_type"], node_class, result)


def _unpack(class_type: str, node_class: type, result: object) -> Outcome:
    ui = result.get("ui", {}) if isinstance(result, dict) else {}
    outputs = result.get("result", ()) if isinstance(result, dict) else (result or ())
    declared = len(node_class.RETURN_TYPES)
    if not isinstance(outputs, (tuple, list)) or len(outputs) < declared:
        raise WorkflowError(f"returned {shorten(result)} where {declared} outputs are declared")
    return Outcome(class_type, tuple(outputs), ui)
