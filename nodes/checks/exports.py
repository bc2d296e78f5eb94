"""Asks before a training whether the exports that wait for its result can succeed: they come hours later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ...gdpo.errors import ExportError, WorkflowError, joined
from ...gdpo.export.checks import plan_export
from ...gdpo.export.formats import FORMATS
from ...gdpo.export.rehearsal import rehearse
from ...gdpo.llamacpp.runtime import runtime_remedy, runtime_version
from ...gdpo.policies.policy import Policy
from .declared import is_link, node_label
from .paths import safe_name, unused_name

NONE = "none"  # no second type
_EXPORT = "GDPOExportGGUF"
_MODEL, _FILE = 0, 0  # outputs of GDPO Train and of Export GGUF
# Nodes that run the file: the input that takes it.
_RUNNERS = {"GDPOChat": "gguf", "GDPOCompare": "gguf"}
_WHEN = "This was asked before the training, which has not begun; mend it, or take the node out of the workflow."


def check_exports(
    model: Policy,
    folder: Path,
    workflow: Mapping[str, object] | None,
    node_id: str | None,
    poll: Callable[[], None] = lambda: None,
) -> None:
    """Refuse a training whose result goes to an export, or a use of its file, that is known to fail.

    Args:
        model: The model that is trained; its result has the same base.
        folder: The run's folder, which need not exist yet.
        workflow: The graph in the API format; None where there is none.
        node_id: The training's node in it.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        ExportError: An export cannot succeed; the message names its node.
        PreflightError: Several cannot.
    """
    graph = workflow if isinstance(workflow, Mapping) else {}
    found = list(_refusals(model, folder, graph, str(node_id), poll))
    if found:
        raise joined(found)


def _refusals(
    model: Policy,
    folder: Path,
    graph: Mapping[str, object],
    node_id: str,
    poll: Callable[[], None],
) -> Iterator[ExportError]:
    """Yield what is wrong with each export, and each use of its file."""
    for export, node in _fed_by(graph, node_id, _MODEL, {_EXPORT: "model"}):
        try:
            types, name = _asked(node)
            target = folder / "gguf"
            stem = export_stem(target, name or folder.name, types)
            rehearse(model, plan_export(model, target, stem, types), poll)
        except (ExportError, WorkflowError) as error:
            yield ExportError(f"{_label(export, node)}: {error} {_WHEN}")
            continue
        for user, one in _fed_by(graph, export, _FILE, _RUNNERS):
            if runtime_version() is None:
                yield ExportError(
                    f"{_label(user, one)}: needs llama-cpp-python, which is not installed: {runtime_remedy()}. {_WHEN}"
                )


def export_types(kind: str, also: str) -> tuple[str, ...]:
    """Return the types that an export writes, each once."""
    return tuple(dict.fromkeys([kind] if also == NONE else [kind, also]))


def export_stem(folder: Path, wanted: str, types: tuple[str, ...]) -> str:
    """Return the name of an export's files, with a number where the one that is wanted is taken."""
    taken = {path.name.casefold() for path in folder.glob("*.gguf")}
    return unused_name(
        wanted, lambda one: any(f"{one}-{kind}.gguf".casefold() in taken for kind in types)
    )


def _asked(node: Mapping[str, object]) -> tuple[tuple[str, ...], str]:
    """Return the types and the name that an export asks for, as far as they stand in the workflow."""
    inputs = node.get("inputs")
    inputs = inputs if isinstance(inputs, Mapping) else {}
    kind, also, name = inputs.get("type"), inputs.get("also", NONE), inputs.get("name", "")
    known = [one for one in (kind, also) if isinstance(one, str) and one in FORMATS]
    types = export_types(known[0], known[-1]) if known else ("F16",)  # linked: known only later
    plain = isinstance(name, str) and name.strip()
    return types, safe_name(name, "name") if isinstance(name, str) and plain else ""


def _fed_by(
    graph: Mapping[str, object], source: str, output: int, kinds: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield id and node of those that take an output.

    Args:
        graph: The workflow.
        source: Id of the node that gives it.
        output: Its number.
        kinds: Kinds of node to look for, and the input of each.
    """
    for node_id, node in graph.items():
        if not isinstance(node, Mapping) or str(node.get("class_type")) not in kinds:
            continue
        inputs = node.get("inputs")
        link = inputs.get(kinds[str(node["class_type"])]) if isinstance(inputs, Mapping) else None
        if is_link(link) and link[0] == source and link[1] == output:
            yield node_id, node


def _label(node_id: str, node: Mapping[str, object]) -> str:
    return node_label(node_id, node["class_type"])
