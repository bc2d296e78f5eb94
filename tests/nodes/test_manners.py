"""How the nodes behave in a host: whose run goes on, how fast they stop, and what they leave behind."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest
import torch
from loaded_pack import PACK, ROOT, submodule

host = submodule("nodes.comfy.host")
progress = submodule("nodes.comfy.progress")
paths = submodule("nodes.checks.paths")
errors = submodule("gdpo.errors")
runs = submodule("gdpo.runs.choose")
policies = submodule("gdpo.policies.policy")
bases = submodule("gdpo.policies.base")
runtime = submodule("gdpo.llamacpp.runtime")
methods = submodule("gdpo.objective.objective")
rewards = submodule("gdpo.rewards")
history = submodule("gdpo.runs.history")
converter = submodule("gdpo.export.converter")

NODES = PACK.NODE_CLASS_MAPPINGS
TINY = {"steps": 2, "prompts_per_step": 1, "group_size": 2, "max_new_tokens": 4, "lora_rank": 2}


def call(node_id, **inputs):
    """Run one node with its defaults, as the host would."""
    node_class = NODES[node_id]
    return getattr(node_class(), node_class.FUNCTION)(**inputs)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    chosen = host.Folders(tmp_path / "output", tmp_path / "input", (tmp_path / "models",))
    for folder in (chosen.output, chosen.inputs, *chosen.models):
        folder.mkdir()
    host.configure(chosen)
    monkeypatch.setitem(progress._state, "stop", False)
    yield chosen
    host.configure(None)


@pytest.fixture(scope="module")
def starter():
    return call("GDPOLoadModel", model="starter (bundled)", device="cpu")[0]


@pytest.fixture
def parts(starter):
    (few,) = call("GDPOLoadPrompts", file="support desk: train", limit=8)
    one = rewards.Reward("short", rewards.Conciseness(unit="characters", shortest=0, longest=1))
    two = rewards.Reward("polite", rewards.Politeness())
    objective = methods.combine_rewards([one, two])
    return {"model": starter, "prompts": few, "rewards": objective}


def train(**inputs):
    """The run's folder name and its record."""
    given = call("GDPOTrain", **inputs)
    run = given["result"][1]
    assert run.folder.name in given["ui"]["text"][0]
    return run.folder.name, history.read_history(run.folder)


# --- whose run goes on -------------------------------------------------------------------------------


def test_other_settings_start_a_new_run_and_leave_the_old_one_alone(parts, folders):
    first, _ = train(**parts, run_name="a", **TINY)
    before = {path: path.read_bytes() for path in folders.output.rglob("*") if path.is_file()}
    second, _ = train(**parts, run_name="a", **TINY, learning_rate=0.5)
    third, _ = train(**parts, run_name="a", **TINY, learning_rate=0.25)
    assert (first, second, third) == ("a", "a-2", "a-3")
    assert {path: path.read_bytes() for path in before} == before


def test_going_back_to_earlier_settings_continues_their_run(parts, folders):
    for rate in (1e-4, 0.5):
        train(**parts, run_name="a", **TINY, learning_rate=rate)
    name, records = train(**parts, run_name="a", **{**TINY, "steps": 3})
    assert (name, [record["step"] for record in records]) == ("a", [1, 2, 3])
    assert train(**parts, run_name="a", **TINY, learning_rate=0.5)[0] == "a-2"


def test_fresh_always_starts_a_new_run(parts, folders):
    names = [train(**parts, run_name="a", **TINY, existing_run="fresh")[0] for _ in range(3)]
    assert names == ["a", "a-2", "a-3"]
    newest, _ = train(**parts, run_name="a", **TINY, existing_run="continue")
    assert newest == "a-3"


def test_a_number_is_never_used_again(folders):
    root = folders.output
    for name in ("a", "a-4", "a-x", "b-9", "a-03"):
        (root / name).mkdir()
        (root / name / "run.json").write_text("{}")
    (root / "a-7").write_text("a file")
    (root / "a-8").symlink_to(root / "nowhere")
    chosen = runs.choose_folder(root, "a", {"settings": {}}, fresh=False)
    assert chosen == root / "a-9"


def test_a_damaged_run_is_left_alone(parts, folders):
    for content in ("", "[]", "{}", '{"identity": 1}', '{"identity": {"settings": 5}}', "[" * 9999):
        folder = folders.output / "gdpo" / "a"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(content)
        root = folder.parent
        identity = {"settings": {"rng_seed": 0}, "model": "m"}
        assert runs.choose_folder(root, "a", identity, fresh=False) == root / "a-2"
        assert (folder / "run.json").read_text() == content


def test_a_run_behind_a_symlink_out_of_the_folder_is_not_read(folders, tmp_path):
    identity = {"settings": {"rng_seed": 0}, "model": "m"}
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "run.json").write_text(json.dumps({"identity": identity}))
    (folders.output / "a").symlink_to(outside)
    assert runs.choose_folder(folders.output, "a", identity, fresh=False).name == "a-2"
    (folders.output / "a").unlink()
    outside.rename(folders.output / "a")
    assert runs.choose_folder(folders.output, "a", identity, fresh=False).name == "a"


def test_two_training_nodes_of_one_name_do_not_disturb_each_other(parts, folders):
    graph = [{"learning_rate": 0.5}, {"learning_rate": 0.25}, {"learning_rate": 0.5}]
    found = [
        train(**parts, run_name="a", unique_id=str(i), **TINY, **g) for i, g in enumerate(graph)
    ]
    assert [name for name, _ in found] == ["a", "a-2", "a"]
    assert found[0][1] == found[2][1]


def test_rng_seed_is_no_name_that_the_page_changes_after_each_run():
    for node_id, node_class in NODES.items():
        names = {name for group in node_class.INPUT_TYPES().values() for name in group}
        assert not names & {"seed", "noise_seed"}, node_id


# --- interrupt ---------------------------------------------------------------------------------------

BUSY = {
    "steps": 50,
    "prompts_per_step": 4,
    "group_size": 4,
    "max_new_tokens": 48,
    "micro_batch": 16,
    "lora_rank": 8,
    "kl_coeff": 0.1,
}


@pytest.fixture
def stop_at(folders, monkeypatch):
    """Gives a function that asks for a stop at the n-th poll of a phase, and sees the work end there."""

    def stop(phase, work, *, poll, after=1):
        polls: list[str] = []

        class Watched(progress.TerminalProgress):
            current = ""

            def phase(self, name, done, total):
                self.current = name if done >= after else ""
                super().phase(name, done, total)

            def poll(self):
                super().poll()
                if self.current.startswith(phase):
                    polls.append(self.current)
                    if len(polls) == poll:
                        progress.request_stop()

        monkeypatch.setitem(progress._state, "stop", False)
        with monkeypatch.context() as patch:
            patch.setattr(progress, "TerminalProgress", Watched)
            with pytest.raises(progress.Stopped):
                work()
        monkeypatch.setitem(progress._state, "stop", False)
        assert len(polls) == poll

    return stop


@pytest.mark.parametrize("phase", ["sampling", "scoring", "updating", "evaluating"])
def test_interrupt_stops_training_between_small_units_and_keeps_the_work(
    phase, parts, folders, stop_at
):
    settings, layers = BUSY, parts["model"].base.model.config.num_hidden_layers
    units = {
        "sampling": BUSY["max_new_tokens"],
        "scoring": 4 * 2 * 2,  # completions, each for two rewards
        "updating": 2 * (layers + 1),  # layers and the head, forward and back
        "evaluating": BUSY["max_new_tokens"],
    }[phase]
    if phase == "scoring":
        settings = {**BUSY, "group_size": 2, "max_new_tokens": 8}
    if phase == "evaluating":
        (held,) = call("GDPOLoadPrompts", file="support desk: held-out", limit=8)
        parts = {**parts, "heldout": held}
        settings = {**BUSY, "eval_every": 2, "group_size": 2}
    work = lambda: train(**parts, run_name="a", **settings)
    for poll in (1, units):
        stop_at(phase, work, poll=poll)
    folder = folders.output / "gdpo" / "a"
    done = max(record["step"] for record in history.read_history(folder))
    assert done >= 1
    assert (folder / "checkpoints" / f"step-{done:06d}").is_dir()
    assert [path.name for path in folder.parent.iterdir()] == ["a"]


def test_a_pass_is_stopped_between_its_layers_forward_and_backward(parts):
    polling = submodule("gdpo.polling")
    model, calls = parts["model"].base.model, []
    ids = torch.arange(8)[None]

    def work(stop):
        calls.clear()

        def poll():
            calls.append(1)
            if len(calls) == stop:
                raise KeyboardInterrupt

        with polling.polled(model, poll):
            embedded = model.get_input_embeddings()(ids).requires_grad_()
            model(inputs_embeds=embedded).logits.sum().backward()

    work(stop=0)
    points = 2 * (model.config.num_hidden_layers + 1)  # each layer and the head, both ways
    assert len(calls) == points
    for stop in range(1, points + 1):
        with pytest.raises(KeyboardInterrupt):
            work(stop)
        assert len(calls) == stop
    calls.clear()
    model(ids)
    assert not calls


needs_llama = pytest.mark.skipif(
    runtime.runtime_version() is None, reason="llama-cpp-python is not installed"
)


@pytest.fixture
def started(monkeypatch):
    """The helper processes that are started."""
    seen = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            seen.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return seen


@needs_llama
def test_interrupt_ends_the_helper_processes_and_leaves_nothing(parts, folders, stop_at, started):
    export = lambda: call("GDPOExportGGUF", model=parts["model"], type="F16")
    stop_at("Convert", export, poll=2, after=0)
    assert list((folders.output / "gdpo" / "untrained" / "gguf").iterdir()) == []
    gguf = export()["result"][0]
    chat = lambda: call("GDPOChat", gguf=gguf, message="Hi", max_new_tokens=400)
    stop_at("Answer", chat, poll=2, after=0)
    assert started
    assert all(process.returncode is not None for process in started)


def test_interrupt_stops_a_comparison_between_tokens(parts, folders, stop_at):
    model, asked = parts["model"], {"prompts": parts["prompts"], "rewards": parts["rewards"]}
    work = lambda: call("GDPOCompare", base=model, tuned=model, **asked, max_new_tokens=48)
    stop_at("evaluating", work, poll=48, after=0)


# --- what is left behind -------------------------------------------------------------------------------


def test_training_leaves_nothing_in_memory_but_the_policy(parts, folders):
    def alive():
        gc.collect()
        kinds = Counter(type(item).__name__ for item in gc.get_objects())
        # Storages that parameters and buffers share count once.
        tensors = [
            item for item in gc.get_objects() if type(item) in {torch.Tensor, torch.nn.Parameter}
        ]
        storages = {
            item.untyped_storage().data_ptr(): item.untyped_storage().nbytes() for item in tensors
        }
        wanted = (
            "AdamW",
            "RewardGradients",
            "Rollouts",
            "_Loop",
            "LoraModel",
            "PeftModelForCausalLM",
            "Linear",
        )
        return {name: kinds[name] for name in wanted}, sum(storages.values())

    train(**parts, run_name="warm-up", **TINY)  # libraries keep caches of their own
    kinds, size = alive()
    given = call("GDPOTrain", **parts, run_name="a", **TINY)
    adapter = given["result"][0].adapter
    own = sum(tensor.untyped_storage().nbytes() for tensor in adapter.state.values())
    kinds_after, size_after = alive()
    assert kinds_after == kinds
    assert size_after - size <= own


def test_a_base_in_use_is_not_put_away(starter):
    assert bases.put_away(starter.base)
    outcome: list[bool] = []
    with policies.attached(starter):
        assert not bases.put_away(starter.base)  # from the thread that uses it
        other = threading.Thread(target=lambda: outcome.append(bases.put_away(starter.base)))
        other.start()
        other.join()
    assert outcome == [False]
    assert bases.put_away(starter.base)


def test_a_base_goes_when_its_last_policy_goes(folders):
    import weakref

    (policy,) = call("GDPOLoadModel", model="starter (bundled)", device="cpu")
    model = weakref.ref(policy.base.model)
    del policy
    gc.collect()
    assert model() is None


AUDIT = """
import importlib.util, sys
import torch
found = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & 3:
        found.append(f"open {arguments[0]}")
    elif event.split(".")[0] in {"socket", "subprocess", "shutil", "tempfile"} or event in {
        "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.system", "os.exec"}:
        found.append(event)
sys.addaudithook(watch)
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("pack", sys.argv[1], submodule_search_locations=[sys.argv[2]])
pack = importlib.util.module_from_spec(spec)
sys.modules["pack"] = pack
spec.loader.exec_module(pack)
for node in pack.NODE_CLASS_MAPPINGS.values():
    node.INPUT_TYPES()
print("\\n".join(found))
"""


def test_import_and_the_page_s_first_look_write_nothing_and_start_nothing(tmp_path):
    command = [sys.executable, "-c", AUDIT, str(ROOT / "__init__.py"), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == []
    assert list(tmp_path.iterdir()) == []


# --- the list of models ----------------------------------------------------------------------------------


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


def test_models_of_every_configured_path_are_listed(tmp_path):
    roots = tuple(tmp_path / name for name in ("one", "two", "gone", "file"))
    make_folder(roots[0] / "a" / "both")
    make_folder(roots[1] / "a" / "both")
    make_folder(roots[1] / "b")
    roots[3].write_text("not a folder")
    make_folder(tmp_path / "elsewhere")
    (roots[1] / "linked").symlink_to(tmp_path / "elsewhere")
    (roots[1] / "ring").symlink_to(roots[1] / "ring")
    (roots[1] / "up").symlink_to(roots[1])
    host.configure(host.Folders(tmp_path, tmp_path, roots))
    try:
        found = paths.list_models()
    finally:
        host.configure(None)
    assert found["a/both"] == roots[0] / "a" / "both"
    assert {"a/both", "b", "linked"} <= set(found)
    assert "ring" not in found


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_folders_that_may_not_be_read_are_passed_over():
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        make_folder(root / "good")
        make_folder(root / "closed" / "x")
        make_folder(root / "listed" / "x")
        (root / "closed").chmod(0o000)
        (root / "listed").chmod(0o444)  # its names can be read, what they name cannot
        host.configure(host.Folders(root, root, (root,)))
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # nothing is closed to the superuser
            found = paths.list_models(), paths.list_prompt_files()
        finally:
            if user == 0:
                os.seteuid(0)
            host.configure(None)
            for folder in ("closed", "listed"):
                (root / folder).chmod(0o755)
    assert (list(found[0]), found[1]) == (["good"], {})
