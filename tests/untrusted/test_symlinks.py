"""Symlinks, pipes and devices inside the allowed folders lead nowhere."""

from __future__ import annotations

import os

import pytest
from fence import NODES, TINY, call, refused
from loaded_pack import submodule

trainer = submodule("gdpo.training.trainer")


@pytest.mark.parametrize("entry", ["", "checkpoints", ".lock", "completions.jsonl"])
def test_training_does_not_write_through_a_symlink(entry, fence, link, parts):
    link(fence.folders.output / "gdpo" / "a" / entry, "secret.txt" if "." in entry else "gguf")
    refused(lambda: call("GDPOTrain", **parts, run_name="a", **TINY), "symlink")


@pytest.mark.parametrize("entry", ["history.jsonl", "run.json", "adapter"])
def test_training_leaves_a_run_alone_that_leads_out(entry, fence, link, parts):
    link(fence.folders.output / "gdpo" / "a" / entry, "secret.txt" if "." in entry else "gguf")
    run = call("GDPOTrain", **parts, run_name="a", **TINY)["result"][1]
    assert run.folder.name == "a-2"


def test_continued_run_is_not_written_through_a_symlink(fence, link, parts):
    call("GDPOTrain", **parts, run_name="a", **TINY)
    history = fence.folders.output / "gdpo" / "a" / "history.jsonl"
    history.unlink()
    link(history, "secret.txt")
    refused(lambda: call("GDPOTrain", **parts, run_name="a", **TINY), "symlink")


def test_the_whole_output_of_the_pack_must_not_be_a_symlink_that_leads_out(fence, link, parts):
    link(fence.folders.output / "gdpo", "gguf")
    refused(lambda: call("GDPOTrain", **parts, run_name="a", **TINY), "symlink")


def test_export_does_not_write_through_a_symlink(fence, link, starter):
    link(fence.folders.output / "gdpo" / "untrained" / "gguf", "gguf")
    refused(lambda: call("GDPOExportGGUF", model=starter, type="F16"), "symlink")


def test_plot_does_not_write_through_a_symlink(fence, link, starter):
    folder = fence.folders.output / "gdpo" / "a"
    link(folder / "convergence.png", "secret.txt")
    (folder / "history.jsonl").write_text('{"step": 1, "rewards": {}}\n')
    run = trainer.TrainResult(starter, folder)
    refused(lambda: call("GDPOPlotConvergence", run=run), "symlink")


def test_prompts_behind_symlinks_pipes_and_devices_are_not_offered(fence, link):
    link(fence.folders.inputs / "link.txt", "secret.txt")
    link(fence.folders.inputs / "folder", "")
    (fence.folders.inputs / "zero.txt").symlink_to("/dev/zero")
    (fence.folders.inputs / "ring.txt").symlink_to(fence.folders.inputs / "ring.txt")
    if hasattr(os, "mkfifo"):
        os.mkfifo(fence.folders.inputs / "pipe.jsonl")
    offered = NODES["GDPOLoadPrompts"].INPUT_TYPES()["required"]["file"][0]
    assert set(offered) == set(submodule("nodes.load_prompts").BUNDLED)
    refused(lambda: call("GDPOLoadPrompts", file="link.txt"), "input 'file'")
