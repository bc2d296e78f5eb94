"""The whole program in this Python: its exit codes, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from loaded_pack import ROOT
from started_program import start

QUICK_START = ROOT / "workflows" / "quick_start.json"
posix = pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")


def test_invalid_workflow_ends_with_exit_code_1_and_its_lines(tmp_path):
    arguments = ["workflow", str(QUICK_START), "--here", "--output", str(tmp_path / "out")]
    done = start(*arguments, "--set", "8.steps=0", "--set", "GDPO Train.run_name=../x")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "error: node 8 (GDPOTrain), input 'steps': 0 is below the minimum 1\n"
    assert not (tmp_path / "out").exists()


TRAINING = ("1", "2", "4", "5", "7", "8", "9")


def training_file(path: Path) -> Path:
    """The training part of the quick-start graph, with small steps."""
    graph = json.loads(QUICK_START.read_text(encoding="utf-8"))
    graph = {key: node for key, node in graph.items() if key in TRAINING}
    del graph["7"]["inputs"]["reward_3"], graph["8"]["inputs"]["heldout"]
    graph["8"]["inputs"] |= {"steps": 10_000, "prompts_per_step": 1, "group_size": 2}
    graph["8"]["inputs"] |= {"max_new_tokens": 8, "lora_rank": 2, "run_name": "long"}
    path.write_text(json.dumps(graph), encoding="utf-8")
    return path


@posix
def test_ctrl_c_saves_the_training_which_then_goes_on(tmp_path):
    file = training_file(tmp_path / "graph.json")
    command = [
        sys.executable,
        str(ROOT / "run.py"),
        "workflow",
        str(file),
        "--here",
        "--output",
        "out",
    ]
    history = tmp_path / "out" / "gdpo" / "long" / "history.jsonl"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            if history.is_file() and len(history.read_text().splitlines()) > 2:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate()
    assert process.returncode == 130, shown
    assert "stopped; a training goes on where it stopped" in shown
    assert "Traceback" not in shown
    done = [json.loads(line)["step"] for line in history.read_text().splitlines()]
    assert list((history.parent / "checkpoints").glob("step-*"))
    again = start(
        *("workflow", str(file), "--here", "--output", "out", "--set", f"8.steps={done[-1] + 1}"),
        cwd=tmp_path,
    )
    assert again.returncode == 0, again.stderr
    assert str(history.with_name("convergence.png")) in again.stdout
    steps = [json.loads(line)["step"] for line in history.read_text().splitlines()]
    assert steps == [*done, done[-1] + 1]
