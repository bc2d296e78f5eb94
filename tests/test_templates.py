"""Every shipped template is the graph of its API file, and both are valid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loaded_pack import PACK, ROOT, submodule

TEMPLATES = sorted((ROOT / "example_workflows").glob("*.json"))
API_FOLDER = Path(__file__).parent / "data" / "workflows"
CLASSES = PACK.NODE_CLASS_MAPPINGS


def api_file(template: Path) -> Path:
    """`GDPO quick start.json` belongs to `quick_start.json`."""
    return API_FOLDER / (template.stem.removeprefix("GDPO ").replace(" ", "_") + ".json")


def as_api(template: dict) -> dict:
    """What the page sends for a saved graph: values by name (widgets are saved by position), links by node."""
    declared_inputs = submodule("nodes.validation").declared_inputs
    sockets = submodule("nodes.guard").SOCKETS
    origins = {link[0]: [str(link[1]), link[2]] for link in template["links"]}
    graph = {}
    for node in template["nodes"]:
        known = declared_inputs(CLASSES[node["type"]])
        widgets = [name for name, item in known.items() if item.type_name not in sockets]
        values = dict(zip(widgets, node.get("widgets_values", []), strict=False))
        linked = {
            item["name"]: origins[item["link"]]
            for item in node["inputs"]
            if item.get("link") is not None
        }
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": {**values, **linked}}
    return graph


def with_defaults(graph: dict) -> dict:
    """The graph with every widget's default where the file leaves it out, without titles."""
    declared_inputs = submodule("nodes.validation").declared_inputs
    sockets = submodule("nodes.guard").SOCKETS
    full = {}
    for key, node in graph.items():
        known = declared_inputs(CLASSES[node["class_type"]])
        defaults = {
            name: item.options.get("default")
            for name, item in known.items()
            if item.type_name not in sockets
        }
        full[key] = {"class_type": node["class_type"], "inputs": {**defaults, **node["inputs"]}}
    return full


def test_there_is_a_quick_start_template():
    assert "GDPO quick start" in {template.stem for template in TEMPLATES}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_is_the_graph_of_its_api_file_and_has_a_picture(template):
    page = as_api(json.loads(template.read_text(encoding="utf-8")))
    api = json.loads(api_file(template).read_text(encoding="utf-8"))
    # Node numbers may differ; with the same classes, values and links the graphs are the same.
    assert with_defaults(page) == with_defaults(api)
    assert template.with_suffix(".jpg").stat().st_size > 10_000


@pytest.mark.parametrize("file", sorted(API_FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_workflow_ever_shipped_is_valid(file):
    workflow, validation = submodule("nodes.workflow"), submodule("nodes.validation")
    validation.check_workflow(workflow.read_workflow(file), CLASSES)
