"""What is said of a model's memory, and how the benchmark measures it."""

from __future__ import annotations

import shutil

from loaded_pack import submodule

from benchmarks.memory import __main__ as benchmark
from benchmarks.memory.cells import Cell


def test_the_weights_of_a_hub_model_are_told_once_its_files_are_there(
    tiny_folder, tmp_path, monkeypatch
):
    import huggingface_hub.constants

    repository = tmp_path / "models--org--small"
    snapshot = repository / "snapshots" / "abc"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    shutil.copytree(tiny_folder, snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    notice = submodule("nodes.checks.memory_notice")
    monkeypatch.setattr(notice, "free_memory", lambda _device: (2**33, 2**34))
    assert notice.before_loading("org/small", "fp32", "cpu") == notice.before_loading(
        snapshot, "fp32", "cpu"
    )
    assert notice.before_loading("org/small", "fp32", "cpu").startswith("weights: ")
    missing = notice.before_loading("org/other", "fp32", "cpu")
    assert "neither a folder nor in the local cache" in missing


def test_a_cell_that_fails_is_listed_with_its_reason_and_does_not_end_the_run(tmp_path):
    result = {"rows": [], "not_measured": []}
    cell = Cell("starter (4 M)", "int9", 1, 2, 4, 2, False)
    benchmark.add(result, cell, tmp_path, "cpu")
    assert result["rows"] == []
    assert result["not_measured"][0].startswith("starter (4 M), int9, 1, 2, 4, 2, False, adamw: ")
    assert "`precision` should be one of" in result["not_measured"][0]
