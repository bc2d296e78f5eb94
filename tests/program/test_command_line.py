"""The command line of `run.py`, and what it becomes."""

from __future__ import annotations

import os

import pytest
from loaded_pack import ROOT
from started_program import command_of, start

from gdpo.threads import WAITING


@pytest.mark.parametrize(
    "command", [[], ["demo"], ["test"], ["coverage"], ["check"], ["workflow"], ["bench"]]
)
def test_help_shows_examples_and_how_to_avoid_the_cuda_build(command):
    done = start(*command, "--help")
    assert done.returncode == 0
    assert f"python run.py {' '.join(command)}".strip() in done.stdout
    assert "PIP_EXTRA_INDEX_URL" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command",
    [[], ["demmo"], ["demo", "--outptu", "x"], ["workflow"], ["demo", "x"], ["check", "x"]],
)
def test_wrong_command_line_is_refused(command):
    done = start(*command)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_old_python_is_told_so_in_one_line(run, monkeypatch, capsys):
    monkeypatch.setattr(run.sys, "version_info", (3, 9, 7))
    assert run.main(["demo"]) == 1
    assert capsys.readouterr().err == "error: Python 3.10 or newer is needed, this is 3.9.7\n"


def test_commands_become_what_runs_in_the_environment(run, monkeypatch):
    headless = str(ROOT / "nodes" / "headless" / "program.py")
    assert command_of(run, "demo", "--output", "x") == [headless, "demo", "--output=x"]
    monkeypatch.chdir(ROOT)
    assert command_of(run, "test", "-k", "a and b", "-x", "tests/test_run.py", "--here") == [
        *("-m", "pytest", "-k", "a and b", "-x", "tests/test_run.py")
    ]
    shared = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile"]
    assert command_of(run, "test") == ["-m", "pytest", *shared]
    assert command_of(run, "coverage", "-x") == ["-m", "pytest", "--cov", *shared, "-x"]
    given = command_of(
        run, "workflow", "f.json", "--set", "1.a=-2", "--set=-b.c=d e", "--models", "m"
    )
    assert given == [
        *(headless, "workflow", "--set=1.a=-2", "--set=-b.c=d e"),
        *("--output=output", "--models=m", "--", "f.json"),
    ]


def test_a_wrong_call_is_refused_without_what_a_terminal_obeys():
    done = start("workflow", "f.json", "--set", "1.a=1", "x\x1b[2J\u202e\udcff")
    assert done.returncode == 2
    assert done.stderr.endswith("unrecognized arguments: x\\x1b[2J\\u202e\\udcff\n")


def test_the_benchmarks_are_those_that_are_documented():
    done = start("bench")
    assert done.stdout.split() == ["convergence", "cost", "memory", "real", "sharing", "speed"]


def test_benchmarks_are_listed_and_started_by_name(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "BENCHMARKS", tmp_path)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    with pytest.raises(run.SetupError, match="no benchmark 'x'; the benchmarks are: none yet"):
        command_of(run, "bench", "x")
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "__main__.py").touch()
    (tmp_path / "memory.py").touch()
    (tmp_path / "_shared.py").touch()
    with pytest.raises(
        run.SetupError, match=r"no benchmark '../x'; the benchmarks are: memory, speed"
    ):
        command_of(run, "bench", "../x")
    assert run.main(["bench"]) == 0
    assert capsys.readouterr().out == "memory\nspeed\n"
    assert command_of(run, "bench", "speed", "--fast", "3") == [
        "-m",
        "benchmarks.speed",
        "--fast",
        "3",
    ]
    assert os.environ["PYTHONPATH"] == os.pathsep.join([str(ROOT), "elsewhere"])


@pytest.mark.skipif(os.name != "posix", reason="elsewhere the command is a child")
def test_idle_threads_spin_for_a_moment_unless_the_user_says_otherwise(run, monkeypatch):
    seen = []
    monkeypatch.setattr(
        run.os, "execve", lambda _path, _command, environment: seen.append(environment)
    )
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    run.execute(["python"])
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    run.execute(["python"])
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    run.execute(["python"])
    assert [environment.get("GOMP_SPINCOUNT") for environment in seen] == ["20000", "7", None]


def test_waiting_is_that_of_the_library(run):
    assert run.WAITING == WAITING
