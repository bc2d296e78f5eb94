"""The nodes: what they declare (frozen), what they refuse, and that they do the real thing."""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from loaded_pack import PACK, ROOT, submodule

from gdpo.to_json import to_json

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
inference = submodule("gdpo.llamacpp.generate")

NODES = PACK.NODE_CLASS_MAPPINGS
GOLDEN = ROOT / "tests" / "data" / "node_inputs.json"
QUICK_START = ROOT / "workflows" / "quick_start.json"


@pytest.fixture
def folders(tmp_path):
    """Folders of a host without ComfyUI."""
    chosen = host.Folders(tmp_path / "output", tmp_path / "input", (tmp_path / "models",))
    for folder in (chosen.output, chosen.inputs, *chosen.models):
        folder.mkdir()
    host.configure(chosen)
    yield chosen
    host.configure(None)


def call(node_id, **inputs):
    """Run one node with its defaults, as the host would."""
    node_class = NODES[node_id]
    return getattr(node_class(), node_class.FUNCTION)(**inputs)


def train(**inputs):
    """Train, and give the tuned policy and the run."""
    return call("GDPOTrain", **inputs)["result"]


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


# --- what nodes declare ------------------------------------------------------------------------------


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


# --- imports -----------------------------------------------------------------------------------------


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


# --- the guard ---------------------------------------------------------------------------------------


class Probe:
    FUNCTION = "look"
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"size": ("INT", {"min": 1, "max": 9})},
            "optional": {
                "rate": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}),
                "label": ("STRING", {"default": "x"}),
                "mode": (["a", "b"], {"default": "a"}),
                "model": ("GDPO_MODEL", {}),
                "prompts": ("GDPO_PROMPTS", {}),
                "reward": ("GDPO_REWARD", {}),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    @guard.guarded
    def look(self, **inputs):
        return inputs, torch.is_inference_mode_enabled(), torch.ones(2, requires_grad=True) * 2


def test_guard_leaves_inference_mode():
    with torch.inference_mode():
        _, inside, made = Probe().look(size=1)
        assert torch.is_inference_mode_enabled()
    assert inside is False
    assert not made.is_inference()
    made.sum().backward()


def test_guard_fills_in_defaults_and_drops_what_is_not_declared():
    given, _, _ = Probe().look(size=2.0, unique_id="7", label=None, stray=1)
    assert given == {"size": 2, "rate": 0.5, "label": "x", "mode": "a", "unique_id": "7"}


REFUSED = {
    "missing": ({"size": ...}, "is required"),
    "linked text": ({"size": "3"}, "must be a whole number"),
    "linked value past its range": ({"size": 10**9}, "above the maximum 9"),
    "NaN": ({"rate": math.nan}, "must be a finite number"),
    "linked menu": ({"mode": "c"}, "is not one of: a, b"),
    "tensor for a number": ({"rate": torch.tensor(0.5)}, "must be a number"),
    "text for a model": ({"model": "gpt"}, "needs a GDPO_MODEL .* found a value of type 'str'"),
    "prompts for a model": ({"model": ()}, "needs a GDPO_MODEL"),
    "no prompts": ({"prompts": ()}, "needs a GDPO_PROMPTS"),
    "texts for prompts": ({"prompts": ("a",)}, "needs a GDPO_PROMPTS"),
    "class for a reward": ({"reward": object}, "needs a GDPO_REWARD"),
    "bytes for a text": ({"label": b"x"}, "must be text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_guard_refuses_with_one_line_naming_the_input(case):
    changed, message = REFUSED[case]
    inputs = {name: value for name, value in {"size": 1, **changed}.items() if value is not ...}
    with pytest.raises(errors.WorkflowError, match=message) as caught:
        Probe().look(**inputs)
    assert str(caught.value).startswith(f"input {next(iter(changed))!r}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_every_node_function_is_guarded():
    for node_id in NODES:
        node_class = NODES[node_id]
        assert getattr(node_class, node_class.FUNCTION).__wrapped__, node_id


# --- what reaches the page ---------------------------------------------------------------------------


def test_json_holds_nothing_that_ends_a_server():
    numpy = pytest.importorskip("numpy")
    found = to_json({
        1: torch.tensor([1.0, math.nan]),
        "scalar": numpy.float32(0.5),
        "count": numpy.int64(3),
        "array": numpy.array([[math.inf, 1.0]]),
        "truth": numpy.bool_(True),
        "nested": [(1, 2), {"x": -math.inf}],
        "path": Path("a") / "b",
        "none": None,
    })
    assert found == {
        "1": [1.0, None],
        "scalar": 0.5,
        "count": 3,
        "array": [[None, 1.0]],
        "truth": True,
        "nested": [[1, 2], {"x": None}],
        "path": str(Path("a") / "b"),
        "none": None,
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found


# --- names and paths ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["run", "run-2", "Qwen2.5 0.5B", "支援デスク", "a", " spaces around "]
)
def test_plain_names_are_taken(name, folders):
    assert paths.resolve_output(name) == (folders.output / "gdpo" / name.strip()).resolve()


BAD_NAMES = [
    *("", " ", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "C:\\x", "c:x", "\\\\host\\share"),
    *(
        "a\0b",
        "a\nb",
        "a\x1bb",
        "a\u202eb",
        "~",
        "~/x",
        "$HOME",
        "%TEMP%",
        "a*b",
        'a"b',
        "a|b",
        "a<b>",
    ),
    *(
        "CON",
        "nul",
        "com1",
        "LPT9.txt",
        "aux.tar.gz",
        "nul .x",
        "CON .txt",
        "COM¹",
        "conin$",
        "a.",
        "a. ",
        ".hidden",
        "-rf",
    ),
    *("x" * 81, "支" * 61, "\ud800", "x\u2028y", "a?b", "a:b"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_leave_the_folder_or_break_a_file_system_are_refused(name, folders):
    with pytest.raises(errors.WorkflowError, match=r"^run_name ") as caught:
        paths.resolve_output(name, what="run_name")
    assert len(str(caught.value).splitlines()) == 1
    assert list(folders.output.iterdir()) == []


def test_symlink_out_of_the_output_folder_is_refused(folders, tmp_path):
    (folders.output / "gdpo").mkdir()
    (folders.output / "gdpo" / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.WorkflowError, match="leads out of the output folder"):
        paths.resolve_output("run")


def test_train_and_export_check_their_names_before_anything_runs():
    assert NODES["GDPOTrain"].VALIDATE_INPUTS(run_name="good") is True
    assert NODES["GDPOTrain"].VALIDATE_INPUTS(run_name=None) is True
    assert "is not a plain name" in NODES["GDPOTrain"].VALIDATE_INPUTS(run_name="../x")
    assert NODES["GDPOExportGGUF"].VALIDATE_INPUTS(name=" ") is True
    assert "Windows reserves" in NODES["GDPOExportGGUF"].VALIDATE_INPUTS(name="nul")


def test_model_folders_are_listed_once_each(folders):
    for name in ("org/good", "plain", "org/good/checkpoint-1", "too/deep/for/us"):
        (folders.models[0] / name).mkdir(parents=True)
        (folders.models[0] / name / "config.json").write_text("{}")
    (folders.models[0] / "no-model").mkdir()
    (folders.models[0] / "file.gguf").touch()
    assert list(paths.list_models()) == ["org/good", "plain"]
    assert NODES["GDPOLoadModel"].INPUT_TYPES()["required"]["model"][0][1:] == ["org/good", "plain"]


def test_prompt_files_are_listed_but_not_through_symlinks_that_lead_out(folders, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "more.txt").write_text("secret")
    (folders.inputs / "sub").mkdir()
    for name in ("a.txt", "b.JSONL", "sub/c.csv", "picture.png", ".hidden.txt"):
        (folders.inputs / name).write_text("x")
    (folders.inputs / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folders.inputs / "inside.txt").symlink_to(folders.inputs / "a.txt")
    (folders.inputs / "folder").symlink_to(tmp_path / "outside")
    assert list(paths.list_prompt_files()) == ["a.txt", "b.JSONL", "inside.txt", "sub/c.csv"]


def test_absent_folders_give_empty_lists(tmp_path):
    host.configure(host.Folders(tmp_path / "o", tmp_path / "i", (tmp_path / "m",)))
    try:
        assert paths.list_models() == {}
        assert paths.list_prompt_files() == {}
    finally:
        host.configure(None)


# --- loading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc", "C:\\models", "a/b/c", ".", "org/..", "https://x.org/m", "~/m", "a b", "-x"],
)
def test_hub_model_that_is_a_path_is_refused(name, folders):
    with pytest.raises(errors.WorkflowError, match="hub_model is neither"):
        call("GDPOLoadModel", model="starter (bundled)", hub_model=name)


def test_hub_model_cannot_name_a_folder_of_the_working_directory(folders, tmp_path, monkeypatch):
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.WorkflowError, match="hub_model is neither"):
        call("GDPOLoadModel", model="starter (bundled)", hub_model="org/model")


def test_nothing_is_downloaded_unless_the_owner_allows_it(folders, monkeypatch):
    monkeypatch.delenv(host.DOWNLOAD_SWITCH, raising=False)
    with pytest.raises(errors.PolicyError, match="downloads are switched off"):
        call("GDPOLoadModel", model="starter (bundled)", hub_model="no-such-org/no-such-model")


def test_model_of_the_menu_is_loaded_from_its_folder(folders, tiny_folder):
    (folders.models[0] / "org").mkdir()
    (folders.models[0] / "org" / "tiny").symlink_to(tiny_folder)
    for choice in ({"model": "org/tiny"}, {"model": "starter (bundled)", "hub_model": "org/tiny"}):
        (policy,) = call("GDPOLoadModel", device="cpu", **choice)
        assert policy.base.source == str(folders.models[0] / "org" / "tiny")


def test_prompts_of_the_input_folder_and_bundled_ones_are_loaded(folders):
    (folders.inputs / "mine.csv").write_text("question,answer\nWhy?,Because\nHow?,So\n")
    (mine,) = call("GDPOLoadPrompts", file="mine.csv", prompt_column="question", system="Be kind")
    assert [prompt.text for prompt in mine] == ["Why?", "How?"]
    assert mine[0].messages[0] == ("system", "Be kind")
    assert mine[0].fields["answer"] == "Because"
    (bundled,) = call("GDPOLoadPrompts", file="support desk: held-out", limit=3)
    assert len(bundled) == 3


def test_changed_prompt_file_is_noticed(folders):
    path = folders.inputs / "mine.txt"
    path.write_text("a")
    node_class = NODES["GDPOLoadPrompts"]
    before = node_class.IS_CHANGED(file="mine.txt", limit=0)
    import os

    os.utime(path, (1, 1))
    assert node_class.IS_CHANGED(file="mine.txt", limit=0) != before
    assert node_class.IS_CHANGED(file=None) == node_class.IS_CHANGED(file="gone.txt") == 0.0


@pytest.mark.parametrize("name", ["other.txt", "../secret.txt", "/etc/passwd"])
def test_prompt_file_that_is_not_listed_is_refused(name, folders, tmp_path):
    (tmp_path / "secret.txt").write_text("x")
    with pytest.raises(errors.WorkflowError, match="is not one of"):
        call("GDPOLoadPrompts", file=name)


# --- rewards -----------------------------------------------------------------------------------------


def reward(kind="Politeness", **inputs):
    return call(f"GDPODefineReward{kind}", **{"name": kind.lower(), **inputs})[0]


def test_reward_node_passes_its_options_to_the_scorer():
    made = reward(
        "Conciseness", name="short", preference=2.0, target=0.8, longest=12, unit="tokens"
    )
    assert made.name == "short"
    assert (made.preference, made.target) == (2.0, 0.8)
    assert (made.scorer.longest, made.scorer.unit) == (12, "tokens")


def test_gate_is_passed_with_its_threshold():
    gated = reward("Conciseness", gate=reward("Politeness"), gate_threshold=0.25)
    assert gated.gate.name == "politeness"
    assert gated.gate_threshold == 0.25
    assert reward("Conciseness", gate_threshold=0.25).gate is None


def test_combined_rewards_keep_the_order_of_their_sockets_and_allow_gaps():
    names = {f"reward_{number}": reward(name=f"r{number}") for number in (10, 2, 1)}
    (objective,) = call(
        "GDPOCombineRewards", method="grpo", weighting="fixed", dispersion_floor=0.5, **names
    )
    assert [one.name for one in objective.rewards] == ["r1", "r2", "r10"]
    assert (objective.method.name, objective.weighting.name, objective.dispersion_floor) == (
        "grpo",
        "fixed",
        0.5,
    )


# --- training, on the starter model --------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts():
    """A loaded starter model, two prompts and an objective."""
    (policy,) = call("GDPOLoadModel", model="starter (bundled)", device="cpu")
    (few,) = call("GDPOLoadPrompts", file="support desk: train", limit=2)
    (objective,) = call(
        "GDPOCombineRewards",
        reward_1=reward("Politeness"),
        # Characters, so that even completions of a few tokens differ and there is something to learn.
        reward_2=reward("Conciseness", unit="characters", shortest=0, longest=1, tolerance=100),
        method="gdpo",
        weighting="directed",
        dispersion_floor=0.7,
    )
    return {"model": policy, "prompts": few, "rewards": objective}


TINY = {"steps": 2, "prompts_per_step": 1, "group_size": 2, "max_new_tokens": 4, "lora_rank": 2}


def test_training_under_inference_mode_leaves_its_input_alone(parts, folders):
    weights = {
        name: value.clone() for name, value in parts["model"].base.model.state_dict().items()
    }
    with torch.inference_mode():
        tuned, run = train(**parts, run_name="a", unique_id="../../x", workflow={}, **TINY)
    assert parts["model"].adapter is None
    after = parts["model"].base.model.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert tuned.base is parts["model"].base
    assert any(
        value.abs().sum() > 0 for name, value in tuned.adapter.state.items() if "lora_B" in name
    )
    assert run.folder == (folders.output / "gdpo" / "a").resolve()
    assert [path.name for path in folders.output.iterdir()] == ["gdpo"]


def test_equal_training_of_the_same_name_gives_the_finished_run(parts, folders):
    first, run = train(**parts, run_name="a", unique_id="1", **TINY)
    history = (run.folder / "history.jsonl").read_text()
    second, again = train(**parts, run_name="a", unique_id="2", **TINY)
    assert again.folder == run.folder
    assert (run.folder / "history.jsonl").read_text() == history
    state = second.adapter.state
    assert all(torch.equal(value, state[name]) for name, value in first.adapter.state.items())


def test_stop_keeps_the_work_and_the_same_training_goes_on(parts, folders, monkeypatch):
    polls = iter(range(10**6))
    monkeypatch.setattr(progress, "stop_requested", lambda: next(polls) > 100)
    with pytest.raises(progress.Stopped):
        train(**parts, run_name="a", **{**TINY, "steps": 50})
    monkeypatch.undo()
    host.configure(folders)
    _, run = train(**parts, run_name="a", **{**TINY, "steps": 3})
    steps = [
        json.loads(line)["step"] for line in (run.folder / "history.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(set(steps))
    assert steps[-1] == 3


def test_plot_gives_an_image_and_a_file_that_the_page_can_show(parts, folders):
    _, run = train(**parts, run_name="a", **TINY)
    given = call("GDPOPlotConvergence", run=run)
    (image,) = given["result"]
    assert image.dtype == torch.float32
    assert image.shape[0] == 1
    assert image.shape[3] == 3
    assert 0 <= image.min() <= image.max() <= 1
    assert given["ui"]["images"] == [
        {"filename": "convergence.png", "subfolder": "gdpo/a", "type": "output"}
    ]
    assert (folders.output / "gdpo" / "a" / "convergence.png").read_bytes().startswith(b"\x89PNG")


# --- the whole graph ---------------------------------------------------------------------------------

SMALL = [
    *(
        "2.limit=2",
        "3.limit=2",
        "8.run_name=whole",
        "8.steps=1",
        "8.prompts_per_step=1",
        "8.group_size=2",
    ),
    *(
        "8.max_new_tokens=8",
        "8.eval_every=1",
        "11.max_new_tokens=8",
        "12.max_new_tokens=8",
        "12.count=2",
    ),
]


def test_quick_start_names_every_main_node_and_is_valid():
    graph = workflow_file.read_workflow(QUICK_START)
    assert validation.check_workflow(graph, NODES)
    used = {node["class_type"] for node in graph.values()}
    assert {node_id for node_id in NODES if not node_id.startswith("GDPODefineReward")} <= used


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The quick-start graph, run small, with everything in it real."""
    if submodule("gdpo.llamacpp.runtime").runtime_version() is None:
        pytest.skip("llama-cpp-python is not installed")
    output = tmp_path_factory.mktemp("whole")
    host.configure(host.Folders(output, output / "input", (output / "models",)))
    graph = workflow_file.apply_settings(workflow_file.read_workflow(QUICK_START), SMALL, NODES)
    taken = paths.resolve_output("whole") / "gguf" / "whole-Q8_0.gguf"
    taken.parent.mkdir(parents=True)
    taken.write_text("somebody's")
    outcomes = workflow.run_workflow(graph, NODES)
    yield {outcome.class_type: outcome for outcome in outcomes.values()}
    host.configure(None)


def test_graph_exports_and_verifies_both_files(whole):
    files = whole["GDPOExportGGUF"].ui["gguf"]
    assert [file["type"] for file in files] == ["Q8_0", "F16"]
    assert all(file["holds"] for file in files)
    assert all(Path(file["path"]).is_file() for file in files)
    assert "holds" in whole["GDPOExportGGUF"].outputs[1]


def test_export_takes_the_next_name_where_a_file_is_in_the_way(whole):
    first = whole["GDPOExportGGUF"].outputs[0].path
    assert first.name == "whole-2-Q8_0.gguf"
    assert first.with_name("whole-Q8_0.gguf").read_text() == "somebody's"


def test_graph_answers_and_compares(whole):
    assert isinstance(whole["GDPOChat"].outputs[0], str)
    answer = whole["GDPOCompare"].ui["answers"][0]
    assert list(answer) == ["prompt", "base", "tuned", "gguf"]
    assert "solves the problem" in whole["GDPOCompare"].outputs[0]


def test_summary_has_the_documented_form(whole):
    summary = json.loads(json.dumps(commands.summarise(whole), allow_nan=False))
    assert list(summary) == ["rewards", "gguf", "plot", "history", "answers"]
    assert list(summary["rewards"]) == ["politeness", "conciseness", "solves the problem"]
    assert all(list(value) == ["before", "after"] for value in summary["rewards"].values())
    assert all(list(file) == ["path", "type", "kl", "top1", "holds"] for file in summary["gguf"])
    assert Path(summary["plot"]).is_file()
    assert Path(summary["history"]).is_file()
    assert list(summary["answers"]) == ["base", "tuned", "gguf"]
    text = commands.describe({**summary, "seconds": 61.4}, "Why?", Path("summary.json"))
    assert text.startswith("Done in 61 s.")
    assert "Asked: Why?" in text
    assert text.endswith("summary.json")


def test_empty_message_to_chat_is_refused(whole):
    with pytest.raises(errors.WorkflowError, match="message"):
        call("GDPOChat", gguf=whole["GDPOExportGGUF"].outputs[0], message="  ")
