"""The names of saved runs that Plot Convergence gives the page for its menu."""

from __future__ import annotations

import os

import pytest
from loaded_pack import submodule

host = submodule("nodes.comfy.host")
NODE = submodule("nodes.plot_convergence").GDPOPlotConvergence


def offered() -> list[str]:
    return NODE.INPUT_TYPES()["optional"]["saved_runs"][1]["saved"]


@pytest.fixture
def output(tmp_path):
    """An empty output folder."""
    host.configure(host.Folders(tmp_path, tmp_path / "input", (tmp_path / "models",)))
    yield tmp_path
    host.configure(None)


def save(output, name: str, second: int) -> None:
    file = output / "gdpo" / name / "history.jsonl"
    file.parent.mkdir(parents=True)
    file.touch()
    os.utime(file, (second, second))


def test_the_newest_run_is_offered_first_and_other_folders_are_not(output):
    for second, name in enumerate(["early", "late", "between"]):
        save(output, name, {"late": 9}.get(name, second))
    (output / "gdpo" / "no-run").mkdir()
    assert offered() == ["late", "between", "early"]


def test_a_name_that_the_node_would_refuse_is_not_offered(output):
    save(output, "good", 1)
    for name in ("a,b", "_hidden"):
        save(output, name, 2)
    assert offered() == ["good"]


def test_without_an_output_folder_nothing_is_offered(output):
    assert offered() == []


def test_a_long_list_of_runs_is_cut_to_the_newest(output):
    for second in range(120):
        save(output, f"run-{second}", second)
    assert offered() == [f"run-{second}" for second in range(119, 19, -1)]
