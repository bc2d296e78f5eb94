"""Runs a workflow in the API format as ComfyUI would, without ComfyUI.

What an output node needs is run, each node once, in the order of its links; optional inputs that
are absent are not passed. `checks/validation.py` has checked everything before the first node starts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...gdpo.errors import GDPOError, WorkflowError, shorten
from ..checks.declared import Graph, declared_inputs, is_link, node_label
from ..checks.validation import check_workflow

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What one node gave: the values of its outputs, and what it would show in the page."""

    class_type: str
    outputs: tuple[Any, ...]
    ui: Mapping[str, Sequence[Any]]


def run_workflow(
    graph: Graph,
    classes: Mapping[str, type],
    *,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Outcome]:
    """Return what each node gave that an output node needs, in the order in which they ran.

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
