"""What nodes declare is frozen, plain and complete; importing them is cheap."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

from loaded_pack import PACK, ROOT, submodule

host = submodule("nodes.comfy.host")
progress = submodule("nodes.comfy.progress")
paths = submodule("nodes.checks.paths")
guard = submodule("nodes.checks.guard")
values = submodule("nodes.checks.values")
validation = submodule("nodes.checks.validation")
commands = submodule("nodes.headless.commands")
workflow = submodule("nodes.headless.workflow")
workflow_file = submodule("nodes.headless.workflow_file")
errors = submodule("gdpo.errors")
rewards = submodule("gdpo.rewards")
prompts = submodule("gdpo.prompts")

NODES = PACK.NODE_CLASS_MAPPINGS
GOLDEN = ROOT / "tests" / "data" / "node_inputs.json"


def declare(node_id):
    """The inputs of a node as the golden file holds them: name, type, default."""
    types = NODES[node_id].INPUT_TYPES()

    def entry(name, spec):
        kind = "COMBO" if isinstance(spec[0], list) else spec[0]
        return [name, kind, spec[1].get("default")]

    return {
        group: [entry(name, spec) for name, spec in types.get(group, {}).items()]
        for group in ("required", "optional")
    }


def test_node_declares_all_that_the_page_shows():
    for node_id in NODES:
        node_class = NODES[node_id]
        assert node_id.startswith("GDPO"), node_id
        assert PACK.NODE_DISPLAY_NAME_MAPPINGS[node_id], node_id
        assert node_class.CATEGORY.split("/")[0] == "GDPO", node_id
        assert len(node_class.DESCRIPTION) > 20, node_id
        assert callable(getattr(node_class, node_class.FUNCTION)), node_id
        outputs = len(node_class.RETURN_TYPES)
        assert len(node_class.RETURN_NAMES) == outputs, node_id
        assert len(node_class.OUTPUT_TOOLTIPS) == outputs, node_id


def test_every_input_has_a_tooltip_and_a_default_that_it_would_accept():
    for node_id in NODES:
        for name, declared in validation.declared_inputs(NODES[node_id]).items():
            case, options = f"{node_id}.{name}", declared.options
            assert len(options["tooltip"]) > 10, case
            if declared.type_name not in guard.SOCKETS:
                assert declared.check(options["default"]) == options["default"], case
            # The page would change a seed of these names after every run.
            assert name not in {"seed", "noise_seed"}, case


def test_declaration_is_to_json():
    for node_id in NODES:
        assert json.loads(json.dumps(NODES[node_id].INPUT_TYPES(), allow_nan=False)), node_id


def test_inputs_are_append_only():
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    current = {node_id: declare(node_id) for node_id in NODES}
    for node_id, groups in golden.items():
        for group, entries in groups.items():
            found = current[node_id][group][: len(entries)]
            assert found == entries, f"{node_id} {group}: saved workflows would break"
    new = {node_id: groups for node_id, groups in current.items() if golden.get(node_id) != groups}
    assert not new, f"freeze what was added, in {GOLDEN.name}: {json.dumps(new)}"


def test_appended_inputs_are_optional_so_that_saved_files_still_run():
    required = {node_id: declare(node_id)["required"] for node_id in NODES}
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert required == {node_id: groups["required"] for node_id, groups in golden.items()}


def test_one_node_for_each_kind_of_reward():
    made = {node_id for node_id in NODES if node_id.startswith("GDPODefineReward")}
    assert made == {f"GDPODefineReward{kind}" for kind in rewards.SCORERS}


def test_pack_offers_its_web_folder():
    assert (ROOT / PACK.WEB_DIRECTORY).is_dir()


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            found |= {alias.name.split(".")[0] for alias in item.names}
        elif isinstance(item, ast.ImportFrom) and item.level == 0:
            found.add(item.module.split(".")[0])
    return found


def test_nodes_import_the_library_relatively_and_comfyui_only_in_its_folder():
    for path in sorted((ROOT / "nodes").rglob("*.py")):
        found = _imports(path)
        assert not found & {"gdpo", "nodes"}, path
        if path.parent.name != "comfy":
            assert not found & {"comfy", "comfy_execution", "folder_paths", "server"}, path


IMPORT_PROBE = """
import importlib.util, sys
import torch
before = set(sys.modules)
spec = importlib.util.spec_from_file_location("pack", sys.argv[1], submodule_search_locations=[sys.argv[2]])
pack = importlib.util.module_from_spec(spec)
sys.modules["pack"] = pack
spec.loader.exec_module(pack)
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""


def test_import_loads_nothing_but_the_pack_and_what_python_and_torch_bring():
    command = [sys.executable, "-c", IMPORT_PROBE, str(ROOT / "__init__.py"), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - sys.stdlib_module_names == {"pack"}
