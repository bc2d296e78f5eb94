"""The whole program in this Python: its exit codes, Ctrl-C, and whatever kills it.

`--kills N` kills it once for each 15 of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crash_runs import check_equal
from loaded_pack import ROOT, host_folders, submodule
from started_program import start

commands = submodule("nodes.headless.commands")

QUICK_START = ROOT / "workflows" / "quick_start.json"
TRAINING = ("1", "2", "4", "5", "7", "8", "9")
LAST = "8.steps"
posix = pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")


def test_invalid_workflow_ends_with_exit_code_1_and_its_lines(tmp_path):
    arguments = ["workflow", str(QUICK_START), "--here", "--output", str(tmp_path / "out")]
    done = start(*arguments, "--set", "8.steps=0", "--set", "GDPO Train.run_name=../x")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "error: node 8 (GDPOTrain), input 'steps': 0 is below the minimum 1\n"
    assert not (tmp_path / "out").exists()


def training_file(folder: Path) -> Path:
    """The training part of the quick-start graph, with small steps and no end."""
    graph = json.loads(QUICK_START.read_text(encoding="utf-8"))
    graph = {key: node for key, node in graph.items() if key in TRAINING}
    del graph["7"]["inputs"]["reward_3"], graph["8"]["inputs"]["heldout"]
    graph["8"]["inputs"] |= {"steps": 10_000, "prompts_per_step": 1, "group_size": 2}
    graph["8"]["inputs"] |= {"max_new_tokens": 8, "lora_rank": 2, "run_name": "long"}
    graph["8"]["inputs"] |= {"checkpoint_every": 2}
    path = folder / "graph.json"
    path.write_text(json.dumps(graph), encoding="utf-8")
    return path


def begin(file: Path, run: Path, more: int) -> subprocess.Popen:
    """The program's process, as soon as the run's history has `more` lines than it had; or ended."""
    output = run.parents[1]
    command = [sys.executable, str(ROOT / "run.py"), "workflow", str(file), "--here"]
    before = len(steps_of(run))
    process = subprocess.Popen(
        [*command, "--output", str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    while process.poll() is None and len(steps_of(run)) < before + more:
        time.sleep(0.02)
    return process


def steps_of(run: Path) -> list[int]:
    """The steps of a run's history, without a line that is not whole."""
    file = run / "history.jsonl"
    whole = file.read_text().split("\n")[:-1] if file.is_file() else []
    return [json.loads(line)["step"] for line in whole]


def finish(file: Path, root: Path, last: int) -> Path:
    """Run the workflow up to step `last` in this process; returns the run's folder."""
    with host_folders(root) as folders:
        commands.run_file(file, [f"{LAST}={last}"])
        return folders.output / "gdpo" / "long"


@posix
def test_ctrl_c_saves_the_training_which_goes_on_as_it_does_after_a_kill(tmp_path, request):
    file, root, run = training_file(tmp_path), tmp_path / "here", tmp_path / "here/output/gdpo/long"
    root.mkdir()
    with begin(file, run, more=3) as process:
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate()
    assert process.returncode == 130, shown
    assert "stopped; a training goes on where it stopped" in shown
    assert "Traceback" not in shown
    done = steps_of(run)
    assert (run / "checkpoints" / f"step-{done[-1]:06d}").is_dir()
    for case in range(max(1, request.config.getoption("--kills") // 15)):
        with begin(file, run, more=2 + case % 3) as process:
            os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    assert steps_of(run)[: len(done)] == done
    last = max(steps_of(run)) + 1
    finish(file, root, last)
    assert [path.name for path in run.parent.iterdir()] == ["long"]
    assert steps_of(run) == list(range(1, last + 1))
    (tmp_path / "whole").mkdir()
    reference = finish(file, tmp_path / "whole", last)
    for folder in (run, reference):
        (folder / "run.json").unlink()  # it says how many steps were asked for at first
    check_equal(run, reference)
    check_plotted(tmp_path, run)


def check_plotted(folder: Path, run: Path) -> None:
    """The program draws the finished run, says where, and ends with 0."""
    graph = {"1": {"class_type": "GDPOPlotConvergence", "inputs": {"saved_runs": run.name}}}
    (folder / "plot.json").write_text(json.dumps(graph), encoding="utf-8")
    arguments = ("workflow", "plot.json", "--here", "--output", str(run.parents[1]))
    done = start(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert str(run.parents[1]) in done.stdout
    assert ".png" in done.stdout
