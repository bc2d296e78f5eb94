"""Every shipped template is the graph of its API file, and both are valid."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import pytest
from loaded_pack import PACK, ROOT, submodule

TEMPLATES = sorted((ROOT / "example_workflows").glob("*.json"))
API_FOLDER = Path(__file__).parents[2] / "workflows"
CLASSES = PACK.NODE_CLASS_MAPPINGS
NOTE = "MarkdownNote"  # the page's own; it is not part of the graph that is run
# In the order in which the page lists them: by name.
ISSUED = (
    *("1 quick start", "2 support desk", "3 reasoning with gated length", "4 methods side by side"),
    *("5 ten rewards", "6 teaching assistant", "7 medical information"),
)
NUMBER = re.compile(r"^GDPO \d ")
# Between nodes: the page's newer rendering makes them higher, and notices make them grow.
LEAST_GAP = 60
TITLE = 30  # a node's title stands above its place


def api_file(template: Path) -> Path:
    """`GDPO 1 quick start.json` belongs to `quick_start.json`."""
    return API_FOLDER / (NUMBER.sub("", template.stem).replace(" ", "_") + ".json")


def as_api(template: dict) -> dict:
    """What the page sends for a saved graph: values by name (widgets are saved by position), links by node."""
    declared_inputs = submodule("nodes.checks.validation").declared_inputs
    sockets = submodule("nodes.checks.guard").SOCKETS
    origins = {link[0]: [str(link[1]), link[2]] for link in template["links"]}
    graph = {}
    for node in template["nodes"]:
        if node["type"] == NOTE:
            continue
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
    declared_inputs = submodule("nodes.checks.validation").declared_inputs
    sockets = submodule("nodes.checks.guard").SOCKETS
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


def test_every_promised_template_is_there_and_has_its_api_file():
    assert [f"GDPO {name}" for name in ISSUED] == [template.stem for template in TEMPLATES]
    assert all(api_file(template).is_file() for template in TEMPLATES)


def test_every_api_file_has_its_template():
    assert set(API_FOLDER.glob("*.json")) == {api_file(template) for template in TEMPLATES}


def test_templates_name_only_what_comes_with_the_pack():
    starter, bundled = (
        submodule("nodes.load_model").STARTER,
        submodule("nodes.load_prompts").BUNDLED,
    )
    for file in API_FOLDER.glob("*.json"):
        for node in json.loads(file.read_text(encoding="utf-8")).values():
            if node["class_type"] == "GDPOLoadModel":
                assert (node["inputs"]["model"], node["inputs"]["hub_model"]) == (starter, "")
            if node["class_type"] == "GDPOLoadPrompts":
                assert bundled[node["inputs"]["file"]].is_file()


def test_training_and_held_out_prompts_share_no_row():
    bundled = submodule("nodes.load_prompts").BUNDLED
    for name, path in bundled.items():
        if name.endswith(": train"):
            held = bundled[name.replace(": train", ": held-out")]
            rows = [
                {
                    json.loads(line)["prompt"]
                    for line in file.read_text(encoding="utf-8").splitlines()
                }
                for file in (path, held)
            ]
            assert not rows[0] & rows[1]


def test_runs_of_the_templates_do_not_share_a_folder():
    names = [
        node["inputs"]["run_name"]
        for file in API_FOLDER.glob("*.json")
        for node in json.loads(file.read_text(encoding="utf-8")).values()
        if node["class_type"] == "GDPOTrain"
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_is_the_graph_of_its_api_file_and_has_a_picture(template):
    page = as_api(json.loads(template.read_text(encoding="utf-8")))
    api = json.loads(api_file(template).read_text(encoding="utf-8"))
    # Node numbers may differ; with the same classes, values and links the graphs are the same.
    assert with_defaults(page) == with_defaults(api)
    assert template.with_suffix(".jpg").stat().st_size > 10_000


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_nodes_of_a_template_keep_their_distance(template):
    nodes = json.loads(template.read_text(encoding="utf-8"))["nodes"]
    for one, other in combinations(nodes, 2):
        beside = _gap(one, other, 0, 0)
        below = _gap(one, other, 1, TITLE)
        assert max(beside, below) >= LEAST_GAP, (one["title"], other["title"])


def _gap(one, other, side, above):
    """Pixels between two nodes, along one side; negative where they overlap."""
    first, second = sorted((one, other), key=lambda node: node["pos"][side])
    return second["pos"][side] - above - (first["pos"][side] + first["size"][side])


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_has_titled_groups_and_a_note_that_leads_through_it(template):
    graph = json.loads(template.read_text(encoding="utf-8"))
    (note,) = (node for node in graph["nodes"] if node["type"] == NOTE)
    assert [int(n) for n in re.findall(r"^(\d)\. ", note["widgets_values"][0], re.MULTILINE)] == [
        *range(1, 6)
    ]
    for node in graph["nodes"]:
        if node is not note:
            assert any(_holds(group["bounding"], node) for group in graph["groups"]), node["title"]


def _holds(bounding, node):
    (x, y, w, h), (left, top), (width, height) = bounding, node["pos"], node["size"]
    return x <= left and y <= top - TITLE and left + width <= x + w and top + height <= y + h


@pytest.mark.parametrize("file", sorted(API_FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_workflow_ever_shipped_is_valid(file):
    workflow_file, validation = (
        submodule("nodes.headless.workflow_file"),
        submodule("nodes.checks.validation"),
    )
    validation.check_workflow(workflow_file.read_workflow(file), CLASSES)
