"""Workflow files and settings that are damaged at random: valid, or refused with an error of ours.

`--cases N` runs so many; a failure names its case, which the seed makes again.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from loaded_pack import PACK, ROOT, submodule
from workflow_damage import Damage

errors = submodule("gdpo.errors")
problems = submodule("nodes.checks.problems")
validation = submodule("nodes.checks.validation")
workflow_file = submodule("nodes.headless.workflow_file")

NODES = PACK.NODE_CLASS_MAPPINGS
CASES = 150
MAX_CHARACTERS = 20_000
GRAPHS = [json.loads(path.read_bytes()) for path in sorted((ROOT / "workflows").glob("*.json"))]

_seen: list[str] | None = None
_EVENTS = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.symlink"}
_EVENTS |= {"os.truncate", "os.chmod", "os.rmdir", "os.link"}


def _watch(event: str, arguments: tuple) -> None:
    if _seen is None:
        return
    if event in _EVENTS and isinstance(arguments[0], (str, bytes, os.PathLike)):
        _seen.append(os.path.realpath(os.fsdecode(arguments[0])))
    elif event in {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"}:
        _seen.append(event)


sys.addaudithook(_watch)


@pytest.fixture
def seen(tmp_path):
    """A folder that no workflow may reach, and what is opened or leaves the process meanwhile."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    global _seen
    _seen = []
    yield outside, _seen
    _seen = None


def check(file: Path, settings: list[str]) -> None:
    """Check a workflow file as `run.py workflow` does before it runs anything."""
    graph = workflow_file.apply_settings(workflow_file.read_workflow(file), settings, NODES)
    validation.check_workflow(graph, NODES)


def faults_of(message: str) -> list[str]:
    """What is wrong with an error itself."""
    lines = message.splitlines()
    found = [f"{len(lines)} lines"] if len(lines) > problems.MAX_PROBLEMS + 1 else []
    found += [f"{len(message)} characters"] if len(message) > MAX_CHARACTERS else []
    return found + ["not printable" for line in lines if not line.isprintable()][:1]


def test_a_damaged_workflow_is_valid_or_refused_with_an_error_of_ours(
    folders, seen, tmp_path, pytestconfig
):
    outside, paths = seen
    file = tmp_path / "input" / "graph.json"
    ends: Counter = Counter()
    others = []
    for case in range(pytestconfig.getoption("cases") or CASES):
        damage = Damage(case, str(outside))
        graph = GRAPHS[case % len(GRAPHS)]
        data, done = damage.file(graph)
        settings = [damage.setting(graph) for _ in range(case % 3)]
        file.write_bytes(data)
        try:
            check(file, settings)
            ends["valid"] += 1
        except errors.WorkflowError as error:
            ends["refused"] += 1
            others += [f"case {case}, {done}: {fault}" for fault in faults_of(str(error))]
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs on the list
            others.append(f"case {case}, {done}: {type(error).__name__}: {error!s:.90}")
    assert not others, "\n".join(others)
    assert min(ends.values()) > sum(ends.values()) // 20, ends
    allowed = (folders.output, folders.inputs, *folders.models, ROOT, sys.prefix, sys.base_prefix)
    inside = tuple(os.path.realpath(folder) for folder in allowed)
    assert not [path for path in paths if not path.startswith(inside)]
    assert list(folders.output.iterdir()) == []


def test_undamaged_workflows_are_valid(folders):
    for graph in GRAPHS:
        validation.check_workflow(graph, NODES)
