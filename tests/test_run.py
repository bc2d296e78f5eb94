"""The program that a new user starts: its command line, its environment, its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from loaded_pack import ROOT, load_file

from gdpo.threads import WAITING

QUICK_START = ROOT / "workflows" / "quick_start.json"
posix = pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX does")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The program as a module whose environment lies in a folder of the test."""
    module = load_file(ROOT / "run.py")
    venv = tmp_path / ".venv"
    monkeypatch.setattr(module, "VENV", venv)
    monkeypatch.setattr(module, "RECORD", venv / "made_by_run.json")
    monkeypatch.setattr(module, "LOG", venv / "setup.log")
    for name in ("REQUIREMENTS", "CONSTRAINTS"):
        file = tmp_path / f"{name.lower()}.txt"
        file.write_text("pytest>=1  # a reason\n")
        monkeypatch.setattr(module, name, file)
    return module


@pytest.fixture
def stages(run, monkeypatch):
    """Records the set-up's stages in place of running them; installing needs a network."""
    done = []

    def stage(title, command, remedy="", environment=None):
        done.append((title, command, environment or {}))
        if title == "making .venv":
            run.venv_python().parent.mkdir(parents=True)
            run.venv_python().touch()

    monkeypatch.setattr(run, "run_stage", stage)
    return done


def titles(stages):
    return [title for title, _, _ in stages]


def start(*arguments, **options):
    """The real program in its own process, in this Python."""
    command = [sys.executable, str(ROOT / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


# --- command line --------------------------------------------------------------------------------------


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


def command_of(run, *arguments):
    return run.choose_command(*run.parse(list(arguments)))


def test_commands_become_what_runs_in_the_environment(run, monkeypatch):
    headless = str(ROOT / "nodes" / "headless" / "program.py")
    assert command_of(run, "demo", "--output", "x") == [headless, "demo", "--output=x"]
    monkeypatch.chdir(ROOT)
    assert command_of(run, "test", "-k", "a and b", "-x", "tests/test_run.py", "--here") == [
        *("-m", "pytest", "-k", "a and b", "-x", "tests/test_run.py")
    ]
    assert command_of(run, "coverage", "-x") == ["-m", "pytest", "--cov", "-x"]
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
    assert done.stdout.split() == ["convergence", "cost", "memory", "sharing", "speed"]


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


# --- the environment -----------------------------------------------------------------------------------


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
    assert stages[0][1][-2:] == ["pytest", "bitsandbytes"]


def test_checks_have_stages_of_their_own_and_need_no_llama(run, stages):
    run.prepare("check")
    assert titles(stages) == [
        "making .venv",
        "installing packages",
        "installing packages for `check`",
        "fetching pyright from npm",
    ]
    assert stages[2][1][-2:] == ["ruff", "pyright"]
    stages.clear()
    run.prepare("check")
    assert stages == []
    run.prepare("coverage")
    assert titles(stages)[0] == "installing packages for `coverage`"
    assert stages[0][1][-3:] == ["pytest", "bitsandbytes", "pytest-cov"]


def test_developers_tools_are_pinned():
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for name in ("ruff", "pyright", "pytest-cov", "pytest", "bitsandbytes"):
        assert re.search(rf"^{name}==\d", pinned, re.MULTILINE), name


def test_each_check_gets_a_line_and_any_that_does_not_pass_fails_the_whole(
    run, monkeypatch, capsys
):
    def ending(code: int) -> list[str]:
        return [sys.executable, "-c", f"print('because', {code}); raise SystemExit({code})"]

    found = {"first": ending(0), "second": ending(1), "third": ending(2), "last": ending(0)}
    monkeypatch.setattr(run, "checks", lambda _python: found)
    assert run.check(Path(sys.executable)) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "passed: first",
        "failed: second",
        "error: could not run (exit code 2; mend what its message names and start again): third",
        "passed: last",
    ]
    assert shown.err.splitlines() == ["because 1", "because 2"]
    monkeypatch.setattr(run, "checks", lambda _python: {"first": ending(0)})
    assert run.check(Path(sys.executable)) == 0


def test_the_checks_are_those_of_the_tools_and_of_the_import_graph_where_there_is_one(
    run, monkeypatch, tmp_path
):
    monkeypatch.setattr(run, "IMPORT_GRAPH", tmp_path / "graph.py")
    assert list(run.checks(Path("py"))) == ["ruff check", "ruff format", "pyright"]
    run.IMPORT_GRAPH.touch()
    assert run.checks(Path("py"))["import graph"] == ["py", str(tmp_path / "graph.py")]


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


# --- the whole program, in this Python -----------------------------------------------------------------


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
