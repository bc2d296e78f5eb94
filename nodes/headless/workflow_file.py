"""Reads a workflow saved in the API format, and replaces inputs of it.

A file is an object `{id: {"class_type": ..., "inputs": {name: value or [id, output number]}}}`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ...gdpo.errors import WorkflowError, shorten
from ...gdpo.plain_files import read_text
from ..checks.declared import Graph, declared_inputs, is_link, shown_id, suggestion
from ..checks.values import split_types

# Graphs have kilobytes; parsing takes some twenty times a file's size in memory.
_MAX_BYTES = 16 * 2**20
# Node ids that a message names.
_LISTED_NODES = 50


def read_workflow(path: Path) -> Graph:
    """Return the graph in the file, as plain JSON.

    Args:
        path: a JSON file in ComfyUI's API format.

    Returns:
        Node id -> node; not yet checked against any node class.

    Raises:
        WorkflowError: the file cannot be read, is not JSON, or is not in the API format.
    """
    try:
        graph = json.loads(
            read_text(path, _MAX_BYTES),
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
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{shorten(name)} stands twice in one object")
        found[name] = value
    return found


def apply_settings(
    graph: Graph, settings: Sequence[str], classes: Mapping[str, type]
) -> dict[str, dict]:
    """Return a copy of the graph with inputs replaced.

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
    changed: dict[str, Any] = copy.deepcopy(dict(graph))
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
            f"use one of their ids: {_listed(found)}"
        )
    node = graph[found[0]] if found else None
    if not isinstance(node, dict) or "class_type" not in node:
        raise WorkflowError(
            f"--set {shorten(setting)}: no node {shorten(name)}; the nodes are {_listed(graph)}"
        )
    return found[0]


def _listed(ids: Iterable[str]) -> str:
    """Node ids with commas between; of many only the first."""
    shown = [shown_id(node_id) for node_id in islice(ids, _LISTED_NODES + 1)]
    return ", ".join([*shown[:_LISTED_NODES], *(["..."] if len(shown) > _LISTED_NODES else [])])


def _parse_setting(text: str, is_text: bool) -> object:
    """Return the value of a setting; quotes around a text are those of JSON and are taken off."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text
    return text if is_text and not isinstance(value, str) and not is_link(value) else value
