"""The whole of `run.py`, killed at any moment: the next start ends in the same run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crash_runs import check_equal
from loaded_pack import ROOT, host_folders, submodule

commands = submodule("nodes.headless.commands")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills by a signal")


def graph_file(folder: Path) -> Path:
    """The quick start's training part, with six small steps."""
    graph = json.loads((ROOT / "workflows" / "quick_start.json").read_text(encoding="utf-8"))
    graph = {key: node for key, node in graph.items() if key in {*"1245789"}}
    del graph["7"]["inputs"]["reward_3"], graph["8"]["inputs"]["heldout"]
    graph["8"]["inputs"] |= {"steps": 6, "prompts_per_step": 1, "group_size": 2}
    graph["8"]["inputs"] |= {"max_new_tokens": 8, "lora_rank": 2, "run_name": "run"}
    graph["8"]["inputs"] |= {"checkpoint_every": 2}
    path = folder / "graph.json"
    path.write_text(json.dumps(graph), encoding="utf-8")
    return path


def run_here(file: Path, root: Path) -> Path:
    """Run the workflow in this process; returns the run's folder."""
    with host_folders(root) as folders:
        commands.run_file(file, [])
        return folders.output / "gdpo" / "run"


def kill_after(lines: int, file: Path, output: Path) -> None:
    """Run the workflow by the program, and kill that as soon as its history has so many lines."""
    words = ["run.py", "workflow", str(file), "--here", "--output", str(output)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, start_new_session=True, **quiet)
    history = output / "gdpo" / "run" / "history.jsonl"
    while process.poll() is None and _lines(history) < lines:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def test_a_killed_program_ends_equal(tmp_path, request):
    """Killed as soon as a random number of lines are in its history."""
    random_, file = random.Random(3), graph_file(tmp_path)
    (tmp_path / "whole").mkdir()
    reference = run_here(file, tmp_path / "whole")
    for case in range(max(1, request.config.getoption("--kills") // 15)):
        root = tmp_path / f"case-{case}"
        root.mkdir()
        kill_after(random_.randint(1, 5), file, root / "output")
        run = run_here(file, root)
        assert [path.name for path in run.parent.iterdir()] == ["run"]
        check_equal(run, reference)
