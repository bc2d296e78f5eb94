"""Reads a workflow saved in the API format, and replaces inputs of it.

A file is an object `{id: {"class_type": ..., "inputs": {name: value or [id, output number]}}}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from ...gdpo.errors import WorkflowError, shorten
from ...gdpo.plain_files import read_bytes
from ...gdpo.printable import printable
from ..checks.declared import Graph, is_link, shown_id, suggestion
from ..checks.validation import Classes
from ..checks.values import split_types
from .json_text import parse_json

# Graphs have kilobytes; parsing takes some twenty times a file's size in memory.
MAX_FILE_BYTES = 16 * 2**20
# Node ids that a message names.
_LISTED_NODES = 50


def read_workflow(path: Path) -> Graph:
    """Return the graph in the file, as plain JSON.

    Args:
        path: a JSON file in ComfyUI's API format.

    Returns:
        Node id -> node; not yet checked against any node class.

    Raises:
        WorkflowError: the file cannot be read, is too large, is not JSON, or is not in the API format.
    """
    shown = printable(str(path)[-300:])
    try:
        data = read_bytes(path, MAX_FILE_BYTES)
    except OSError as error:
        raise WorkflowError(
            f"{shown}: cannot be read ({error.strerror or error}); name a JSON file in the API format, of at "
            f"most {MAX_FILE_BYTES // 2**20} MiB"
        ) from error
    except ValueError as error:  # NUL in the name
        raise WorkflowError(f"{shown}: is no name of a file") from error
    try:
        graph = parse_json(data.decode("utf-8-sig"))
    except ValueError as error:
        raise WorkflowError(f"{shown}: not valid JSON ({error})") from error
    if not isinstance(graph, dict):
        raise WorkflowError(f"{shown}: a workflow is a JSON object, found {shorten(graph)}")
    if isinstance(graph.get("nodes"), list):
        raise WorkflowError(
            f"{shown}: saved in the page's format; open it in ComfyUI, choose "
            "Workflow > Export (API), and run the file that this saves"
        )
    if not graph:
        raise WorkflowError(f"{shown}: the workflow has no nodes")
    return graph


def apply_settings(
    graph: Graph, settings: Sequence[str], classes: Mapping[str, type]
) -> dict[str, Mapping]:
    """Return a copy of the graph with inputs replaced.

    Args:
        graph: the workflow.
        settings: each `NODE.INPUT=VALUE`; NODE is a node's id, or its title where only one node has
            it. VALUE is read as JSON, else as text; for a text input it is always taken as written.
        classes: node class by name, to know which inputs are text.

    Returns:
        The changed copy; nodes without a setting are those of `graph`.

    Raises:
        WorkflowError: a setting names no node, several nodes, or no input of its node.
    """
    known = Classes(classes)
    titles = _by_title(graph) if settings else {}
    replaced: dict[str, dict[str, object]] = {}
    for setting in settings:
        node_id, name, value = _read_setting(setting, graph, titles, known)
        replaced.setdefault(node_id, {})[name] = value
    changed = {
        key: {**graph[key], "inputs": {**graph[key].get("inputs", {}), **values}}
        for key, values in replaced.items()
    }
    return {**graph, **changed}


def _read_setting(
    setting: str, graph: Graph, titles: Mapping[str, Sequence[str]], classes: Classes
) -> tuple[str, str, object]:
    """Return the node's id, the input's name and its value."""
    target, equals, text = setting.partition("=")
    name, dot, field = target.rpartition(".")
    if not (equals and dot and name and field):
        raise WorkflowError(f"--set {shorten(setting)}: write NODE.INPUT=VALUE")
    node_id = _find_node(graph, titles, name, setting)
    node = graph[node_id]
    class_type, inputs = node["class_type"], node.get("inputs", {})
    if not isinstance(inputs, Mapping):
        raise WorkflowError(
            f"--set {shorten(setting)}: inputs of node {shown_id(node_id)} must be an object, "
            f"found {shorten(inputs)}"
        )
    is_known = isinstance(class_type, str) and class_type in classes.known
    known = classes.inputs(node) if is_known else {}
    if known and field not in known:
        hint = suggestion(field, known)
        raise WorkflowError(
            f"--set {shorten(setting)}: {class_type} has no input {shorten(field)}{hint}"
        )
    is_text = field in known and split_types(known[field].kind) == {"STRING"}
    return node_id, field, _parse_value(text, is_text)


def _by_title(graph: Graph) -> dict[str, list[str]]:
    """Return the ids of the nodes that have each title."""
    found: dict[str, list[str]] = {}
    for node_id, node in graph.items():
        meta = node.get("_meta") if isinstance(node, dict) else None
        title = meta.get("title") if isinstance(meta, dict) else None
        if isinstance(title, str):
            found.setdefault(title, []).append(node_id)
    return found


def _find_node(graph: Graph, titles: Mapping[str, Sequence[str]], name: str, setting: str) -> str:
    found = [name] if name in graph else titles.get(name, ())
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


def _parse_value(text: str, is_text: bool) -> object:
    """Return the value of a setting; quotes around a text are those of JSON and are taken off."""
    try:
        value = parse_json(text)
    except ValueError:
        return text
    return text if is_text and not isinstance(value, str) and not is_link(value) else value
