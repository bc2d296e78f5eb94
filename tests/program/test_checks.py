"""The checks of a developer, and their tools."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from loaded_pack import ROOT
from started_program import titles


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
    assert stages[0][1][-4:] == ["pytest", "pytest-xdist", "bitsandbytes", "pytest-cov"]


def test_developers_tools_are_pinned():
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for name in ("ruff", "pyright", "pytest-cov", "pytest", "pytest-xdist", "bitsandbytes"):
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
