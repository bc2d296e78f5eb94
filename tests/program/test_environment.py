"""The environment that `run.py` makes: its stages, and how it goes on after any of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from started_program import titles


def test_first_start_goes_through_all_stages_and_the_second_through_none(run, stages):
    assert run.prepare("demo") == run.venv_python()
    assert titles(stages) == [
        "making .venv",
        "installing packages",
        "compiling llama.cpp",
        "fetching llama.cpp's converter",
    ]
    stages.clear()
    run.prepare("demo")
    assert stages == []
    run.prepare("test")
    assert titles(stages) == ["installing packages for `test`"]
    assert stages[0][1][-3:] == ["pytest", "pytest-xdist", "bitsandbytes"]


def test_installing_keeps_to_the_tested_set_and_builds_llama_lean(run, stages, monkeypatch):
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=on")
    run.prepare("demo")
    packages, llama = stages[1], stages[2]
    for _, command, _ in (packages, llama):
        assert command[0] == str(run.venv_python())
        assert command[command.index("-c") + 1] == str(run.CONSTRAINTS)
    assert packages[1][-3:] == ["torch", "-r", str(run.REQUIREMENTS)]
    assert "-DLLAVA_BUILD=OFF" in llama[2]["CMAKE_ARGS"]
    assert llama[2]["CMAKE_ARGS"].endswith("-DGGML_CUDA=on")
    include = next(part for part in llama[2]["CMAKE_ARGS"].split() if "INCLUDE=" in part)
    assert Path(include.partition("=")[2]).is_file()


def test_interrupted_setup_goes_on_at_its_stage(run, stages, monkeypatch):
    whole = run.run_stage

    def interrupted(title, *rest, **options):
        if title == "installing packages":
            raise KeyboardInterrupt
        whole(title, *rest, **options)

    monkeypatch.setattr(run, "run_stage", interrupted)
    assert run.main(["demo"]) == 130
    monkeypatch.setattr(run, "run_stage", whole)
    stages.clear()
    run.prepare("demo")
    assert titles(stages)[0] == "installing packages"


def test_changed_requirements_are_installed_again(run, stages):
    run.prepare("demo")
    stages.clear()
    run.CONSTRAINTS.write_text("pytest==9.0\n")
    run.prepare("demo")
    assert titles(stages)[0] == "installing packages"
    assert "making .venv" not in titles(stages)


def test_venv_whose_python_is_gone_is_made_again(run, stages):
    run.prepare("demo")
    run.venv_python().unlink()
    stages.clear()
    run.prepare("demo")
    assert titles(stages)[:2] == ["making .venv", "installing packages"]


def test_half_written_record_is_no_obstacle(run, stages):
    run.prepare("demo")
    run.RECORD.write_text('{"python": "3.')
    stages.clear()
    run.prepare("demo")
    assert titles(stages)[0] == "making .venv"


def test_venv_of_somebody_else_is_not_touched(run, stages, capsys):
    run.VENV.mkdir()
    (run.VENV / "pyvenv.cfg").write_text("theirs")
    assert run.main(["demo"]) == 1
    message = capsys.readouterr().err
    assert "was not made by this program and stays untouched" in message
    assert len(message.splitlines()) == 1
    assert [path.name for path in run.VENV.iterdir()] == ["pyvenv.cfg"]
    assert stages == []


@pytest.mark.parametrize("failing", ["compiling llama.cpp", "fetching llama.cpp's converter"])
def test_failing_llama_stops_nothing_and_names_the_remedy(
    run, stages, monkeypatch, capsys, failing
):
    whole = run.run_stage

    def stage(title, *rest, **options):
        whole(title, *rest, **options)
        if title == failing:
            raise run.SetupError("no compiler, no network")

    monkeypatch.setattr(run, "run_stage", stage)
    assert run.prepare("demo") == run.venv_python()
    shown = capsys.readouterr().err
    remedy = "--extra-index-url" if failing.startswith("compiling") else "install.py"
    assert remedy in shown
    stages.clear()
    run.prepare("demo")
    assert stages == []
    monkeypatch.setattr(run, "find_compiler", lambda: "/new/c++")
    run.prepare("demo")
    assert titles(stages) == ["compiling llama.cpp"]


def test_venv_is_really_made_and_its_python_runs(run):
    record = run.ensure_venv()
    assert record["python"] == ".".join(map(str, sys.version_info[:3]))
    probe = "import sys; print(sys.prefix)"
    done = subprocess.run(
        [run.venv_python(), "-c", probe], capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).resolve() == run.VENV.resolve()
    assert json.loads(run.RECORD.read_text())["python"] == record["python"]


def test_failing_stage_shows_the_end_of_its_output(run, capsys):
    run.VENV.mkdir()
    program = "for i in range(99): print('line', i)\nraise SystemExit(3)"
    with pytest.raises(run.SetupError, match=r"^installing failed \(try that\)$"):
        run.run_stage("installing", [sys.executable, "-c", program], "try that")
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].split() == ["installing", "0", "s"]
    assert shown[1:] == [f"line {i}" for i in range(99 - run.SHOWN_LOG_LINES, 99)]


def test_stage_gets_its_environment_and_no_input(run):
    run.VENV.mkdir()
    program = "import os, sys; assert os.environ['X'] == '1'; assert sys.stdin.read() == ''"
    run.run_stage("probing", [sys.executable, "-c", program], environment={**os.environ, "X": "1"})


def test_here_names_what_is_missing_and_installs_nothing(run, stages, capsys):
    run.REQUIREMENTS.write_text(
        "pytest>=1\nno-such-package[extra]>=2  # why\n# comment\nnor_this\n"
    )
    assert run.main(["demo", "--here"]) == 1
    message = capsys.readouterr().err
    assert (
        f"this Python ({sys.executable}) lacks no-such-package, nor_this; install them" in message
    )
    assert len(message.splitlines()) == 1
    assert stages == []
    assert not run.VENV.exists()


def test_here_uses_the_python_that_runs_it(run):
    assert run.check_here("test") == Path(sys.executable)
