"""What GDPO Train asks before its first step: all in one message, with a bar that moves."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
from loaded_pack import call, submodule
from node_training import TINY, train

commands = submodule("nodes.headless.commands")
errors = submodule("gdpo.errors")
prompts = submodule("gdpo.prompts")
progress = submodule("nodes.comfy.progress")
memory_notice = submodule("nodes.checks.memory_notice")


def node(kind: str, **inputs: object) -> dict:
    return {"class_type": kind, "inputs": inputs}


def test_exports_memory_and_rows_are_told_together_with_their_node(folders, tmp_path, monkeypatch):
    """Two exports without a converter, a reward without its column, and a row that is too long, by the program."""
    monkeypatch.setenv("GDPO_LLAMA_CPP", str(tmp_path))
    folders.inputs.mkdir(exist_ok=True)
    rows = [{"prompt": "a"}, {"prompt": "x " * 2000}]
    (folders.inputs / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"method": "gdpo", "weighting": "fixed", "dispersion_floor": 0.0}
    graph = {
        "1": node("GDPOLoadModel", model="starter (bundled)", device="cpu"),
        "2": node("GDPOLoadPrompts", file="rows.jsonl"),
        "3": node("GDPODefineRewardAnswerMatch", name="right"),
        "4": node("GDPOCombineRewards", reward_1=["3", 0], **settings),
        "5": node("GDPOTrain", model=["1", 0], prompts=["2", 0], rewards=["4", 0], run_name="a", **TINY),
        "6": node("GDPOExportGGUF", model=["5", 0], type="F16"),
        "7": node("GDPOExportGGUF", model=["5", 0], type="BF16"),
    }  # fmt: skip
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(graph), encoding="utf-8")
    with pytest.raises(errors.PreflightError) as caught:
        commands.run_file(file, [])
    first, *lines = str(caught.value).split("\n")
    assert first == (
        "node 5 (GDPOTrain): 4 things stand in the way of the training, which has not begun:"
    )
    assert lines[0].startswith("- Reward 'right' (AnswerMatch) can score none of the 2 prompts")
    assert lines[1].startswith("- 1 of the 2 prompts is too long")
    assert "line 2 of 'rows.jsonl' with " in lines[1]
    assert lines[2].startswith("- node 6 (GDPOExportGGUF): GDPO_LLAMA_CPP")
    assert lines[3].startswith("- node 7 (GDPOExportGGUF): GDPO_LLAMA_CPP")
    assert not (folders.output / "gdpo" / "a").exists()


def test_a_training_that_does_not_fit_into_memory_is_told_beside_the_rest(
    parts, folders, monkeypatch
):
    monkeypatch.setattr(memory_notice, "estimate", _far_too_much)
    rows = (*parts["prompts"], prompts.make_prompt("x " * 2000))
    with pytest.raises(errors.PreflightError) as caught:
        train(**{**parts, "prompts": rows}, run_name="a", **TINY)
    lines = str(caught.value).split("\n")[1:]
    assert lines[0].startswith("- 1 of the 9 prompts is too long")
    assert lines[1].startswith("- The training does not fit: about ")
    assert not (folders.output / "gdpo" / "a").exists()


def _far_too_much(*arguments, **facts):
    need = submodule("gdpo.memory.need")
    assert 1 < facts["prompt_tokens"] < 100  # of the longest that fits
    return need.MemoryEstimate({"weights": 1}, {"update": 2**50}, "cpu", 2**30, 2**31, True)


def test_the_terminal_shows_a_bar_for_the_rows_and_then_one_for_the_steps(monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    opened = []

    class Bar:
        def __init__(self, text, total):
            self.text, self.total, self.n, self.shown = text, total, 0, []
            opened.append(self)

        def update(self, more):
            self.n += more
            self.shown.append((self.n, self.total))

        def set_postfix_str(self, text):
            self.shown.append(text)

        def close(self):
            self.shown.append("closed")

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress.TerminalProgress, "_open", staticmethod(Bar))
    bar = progress.TerminalProgress("training a", 4)
    for done in (0, 256, 512):
        bar.phase("checking", done, 512)
    bar.phase("sampling", 0, 4)
    bar.record({"step": 1})
    first, second = opened
    assert (first.text, first.shown) == (
        "training a: checking",
        [(0, 512), (256, 512), (512, 512), "closed"],
    )
    assert (second.text, second.shown) == ("training a", [(0, 4), "sampling 0/4", (1, 4)])


def test_the_bar_of_comfyui_moves_with_the_rows_and_then_with_the_steps(monkeypatch):
    moved = []

    class ProgressBar:
        def __init__(self, total, node_id=None):
            pass

        def update_absolute(self, value, total=None, preview=None):
            moved.append((value, total))

    utils = ModuleType("comfy.utils")
    utils.ProgressBar = ProgressBar
    comfy = ModuleType("comfy")
    comfy.utils = utils
    monkeypatch.setitem(sys.modules, "comfy", comfy)
    monkeypatch.setitem(sys.modules, "comfy.utils", utils)
    monkeypatch.setattr(progress, "check_interrupt", lambda: None)
    monkeypatch.setattr(progress, "_pages", dict)
    bar = progress.ComfyProgress("5", progress.Training("a", 4))
    bar.phase("checking", 256, 512)
    bar.phase("checking", 512, 512)
    bar.phase("sampling", 0, 4)
    bar.record({"step": 1})
    assert moved == [(256, 512), (512, 512), (1, 4)]


def test_a_run_goes_on_in_its_folder_when_a_row_that_it_has_not_used_is_gone(
    parts, folders, caplog
):
    """And in a new one when it has used the row."""
    _, records = train(**parts, run_name="a", **{**TINY, "steps": 1})
    (line,) = (folders.output / "gdpo" / "a" / "completions.jsonl").read_text().splitlines()
    used = json.loads(line)["prompt"]
    lost = tuple(row for row in parts["prompts"] if row.text != used)
    fewer = tuple(row for row in parts["prompts"] if row is not lost[0])
    found, more = train(**{**parts, "prompts": fewer}, run_name="a", **TINY)
    assert (found, [record["step"] for record in more]) == ("a", [1, 2])
    assert more[0] == records[0]
    assert "The run 'a' goes on with other rows: " in caplog.text
    given = call("GDPOTrain", **{**parts, "prompts": lost}, run_name="a", **{**TINY, "steps": 3})
    assert given["result"][1].folder.name == "a-2"
    assert "which step 1 was trained on, is gone or another one" in given["ui"]["text"][0]
