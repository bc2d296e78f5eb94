"""Measurements in processes of their own: what goes in arrives, and every failure has its reason."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.common.children import ChildError, run_child

MODULE = "tests.measurements"
posix = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")


def test_arguments_arrive_with_their_types():
    values = ["all logits", "/a b/c", -3, 0.5, [1, [2, None]], True]
    names = ("text", "folder", "number", "share", "sizes", "switch")
    arguments = dict(zip(names, values, strict=True))
    arguments["folder"] = Path(arguments["folder"])
    found = run_child(MODULE, "echo", environment={"GDPO_TEST_X": "7"}, **arguments)
    assert found["values"] == [values[0], str(arguments["folder"]), *values[2:]]
    assert found["path"]
    assert found["x"] == "7"


def test_an_absent_argument_has_its_default():
    given = {"text": "-x", "folder": Path("f"), "number": 1, "share": 1.0, "sizes": []}
    assert run_child(MODULE, "echo", **given)["values"][-1] is False


@pytest.mark.parametrize(
    ("measurement", "arguments", "reason"),
    [
        ("fail", {}, "^ValueError: 100 % of it went wrong$"),
        ("nothing", {}, "invalid choice: 'nothing'"),
        ("echo", {"text": "x"}, "required: --folder, --number"),
        ("fail", {"more": 1}, "unrecognized arguments: --more"),
    ],
)
def test_a_failure_gives_the_last_line_of_what_was_said(measurement, arguments, reason):
    with pytest.raises(ChildError, match=reason):
        run_child(MODULE, measurement, **arguments)


@posix
def test_a_killed_process_is_named_as_such():
    with pytest.raises(ChildError, match=r"^ended by signal 9; 9 is the system's when memory"):
        run_child(MODULE, "die")


def test_a_process_that_takes_too_long_is_ended():
    with pytest.raises(ChildError, match=r"^took longer than 0.5 s$"):
        run_child(MODULE, "sleep", time_limit=0.5)


def test_measurements_run_in_this_python():
    found = run_child(MODULE, "where")
    assert found == sys.executable
