"""Folders with any number of entries: the menus of the page read a bounded part of them."""

from __future__ import annotations

import pytest
from counting import touches
from loaded_pack import PACK, submodule

declared = submodule("nodes.checks.declared")
errors = submodule("gdpo.errors")
paths = submodule("nodes.checks.paths")
scan = submodule("nodes.checks.scan")

NODES = PACK.NODE_CLASS_MAPPINGS
PLOT = NODES["GDPOPlotConvergence"]


@pytest.fixture
def crowd(folders, monkeypatch):
    """Small bounds, and folders that hold far more."""
    monkeypatch.setattr(scan, "MAX_NAMES", 40)
    monkeypatch.setattr(scan, "MAX_FOLDERS", 10)
    for root in (folders.output / "gdpo", folders.inputs, *folders.models):
        for number in range(200):
            inner = root / f"{number:03d}" / "inner" / "most"
            inner.mkdir(parents=True)
            for name in ("history.jsonl", "config.json"):
                (inner.parents[number % 2] / name).touch()
            (root / f"{number:03d}" / "history.jsonl").touch()
            (root / f"{number:03d}.txt").touch()
    return folders


@pytest.mark.parametrize("kind", ["list_models", "list_prompt_files", "list_runs"])
def test_lists_of_a_crowded_folder_are_bounded(kind, crowd):
    given = (crowd.output / "gdpo",) if kind == "list_runs" else ()
    seen = touches(lambda: getattr(paths, kind)(*given))
    assert 0 < seen["scandir"] <= scan.MAX_FOLDERS
    # A file's path is followed to see where it leads, which asks for each of its parts.
    parts = len(crowd.inputs.parts) + 6
    assert seen["stat"] + seen["lstat"] <= scan.MAX_NAMES * 2 * parts
    assert len(getattr(paths, kind)(*given)) <= scan.MAX_NAMES


def test_menus_stand_a_crowded_folder(crowd):
    offered = PLOT.INPUT_TYPES()["optional"]["saved_runs"][1]["saved"]
    assert 0 < len(offered) <= scan.MAX_NAMES
    for node_class in NODES.values():
        assert declared.declared_inputs(node_class) or node_class is PLOT


def test_a_crowded_folder_is_read_by_names_up_to_the_bound(folders, monkeypatch):
    for number in range(30):
        (folders.inputs / f"{number:03d}.txt").touch()
        (folders.inputs / f".{number:03d}.txt").touch()
    monkeypatch.setattr(scan, "MAX_NAMES", 60)
    assert list(paths.list_prompt_files()) == [f"{number:03d}.txt" for number in range(30)]


def test_a_run_folder_with_a_crowd_of_files_is_refused(folders, monkeypatch):
    monkeypatch.setattr(paths, "_MAX_WRITTEN", 20)
    folder = folders.output / "gdpo" / "run"
    folder.mkdir(parents=True)
    for number in range(20):
        (folder / str(number)).touch()
    paths.check_tree(folder, "run_name")
    (folder / "one more").touch()
    with pytest.raises(errors.WorkflowError, match="holds more than 20 files; choose another name"):
        paths.check_tree(folder, "run_name")
