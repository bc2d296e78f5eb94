"""Whose run goes on: a name is taken once, and other settings start another run."""

from __future__ import annotations

import json

from loaded_pack import PACK, submodule
from node_training import TINY, train

host = submodule("nodes.comfy.host")
progress = submodule("nodes.comfy.progress")
paths = submodule("nodes.checks.paths")
errors = submodule("gdpo.errors")
runs = submodule("gdpo.runs.choose")
policies = submodule("gdpo.policies.policy")
runtime = submodule("gdpo.llamacpp.runtime")
rewards = submodule("gdpo.rewards")
history = submodule("gdpo.runs.history")
converter = submodule("gdpo.export.converter")

NODES = PACK.NODE_CLASS_MAPPINGS


def test_other_settings_start_a_new_run_and_leave_the_old_one_alone(parts, folders):
    first, _ = train(**parts, run_name="a", **TINY)
    before = {path: path.read_bytes() for path in folders.output.rglob("*") if path.is_file()}
    second, _ = train(**parts, run_name="a", **TINY, step_size=0.25)
    third, _ = train(**parts, run_name="a", **TINY, step_size=0.125)
    assert (first, second, third) == ("a", "a-2", "a-3")
    assert {path: path.read_bytes() for path in before} == before


def test_going_back_to_earlier_settings_continues_their_run(parts, folders):
    for step_size in (0.5, 0.25):
        train(**parts, run_name="a", **TINY, step_size=step_size)
    name, records = train(**parts, run_name="a", **{**TINY, "steps": 3})
    assert (name, [record["step"] for record in records]) == ("a", [1, 2, 3])
    assert train(**parts, run_name="a", **TINY, step_size=0.25)[0] == "a-2"


def test_a_setting_of_adamw_alone_leaves_a_natural_run_the_same(parts, folders):
    for rate in (1e-4, 0.5):
        assert train(**parts, run_name="a", **TINY, learning_rate=rate)[0] == "a"
    adamw = {"optimizer": "adamw", "step_size": 0.5}
    names = [
        train(**parts, run_name="b", **TINY, **adamw, learning_rate=rate)[0] for rate in (1e-4, 0.5)
    ]
    assert names == ["b", "b-2"]


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
    graph = [{"step_size": 0.25}, {"step_size": 0.125}, {"step_size": 0.25}]
    found = [
        train(**parts, run_name="a", unique_id=str(i), **TINY, **g) for i, g in enumerate(graph)
    ]
    assert [name for name, _ in found] == ["a", "a-2", "a"]
    assert found[0][1] == found[2][1]


def test_rng_seed_is_no_name_that_the_page_changes_after_each_run():
    for node_id, node_class in NODES.items():
        names = {name for group in node_class.INPUT_TYPES().values() for name in group}
        assert not names & {"seed", "noise_seed"}, node_id
