"""The import graph: this checkout keeps to the order, and the script finds what breaks it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "import_graph.py"


def run_script(*arguments: str | Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def plant(root: Path, **extra: str) -> Path:
    """A small pack that keeps to the order, and files that are written into it or over it."""
    files = {
        "gdpo/__init__.py": "",
        "gdpo/errors.py": "",
        "gdpo/runs/__init__.py": "from .folder import open_run\n",
        "gdpo/runs/folder.py": "from ..errors import RunError\n",
        "gdpo/training/__init__.py": "",
        "gdpo/training/trainer.py": "import os\nfrom ..runs import folder\n",
        "nodes/__init__.py": "from .train import Train\n",
        "nodes/train.py": "from ..gdpo.training import trainer\n",
    }
    for name, text in {**files, **extra}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_this_checkout_has_no_circle_and_no_arrow_upwards():
    found = run_script()
    assert found.returncode == 0, found.stdout + found.stderr
    assert " gdpo.training -> " in found.stdout


def test_planted_pack_has_the_arrows_that_its_files_say(tmp_path):
    found = run_script("--root", plant(tmp_path))
    assert found.returncode == 0, found.stdout + found.stderr
    arrows = [line.strip() for line in found.stdout.splitlines() if " -> " in line]
    assert arrows == [
        "nodes -> gdpo.training",
        "gdpo.training -> gdpo.runs",
        "gdpo.runs -> gdpo.errors",
    ]
    assert "5 rooms, 3 arrows between them, 0 circles of rooms, 0 of modules" in found.stdout


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        (
            {
                "gdpo/objective.py": "import gdpo.runs",
                "gdpo/runs/folder.py": "import gdpo.objective",
            },
            "circle of rooms: gdpo.objective <-> gdpo.runs",
        ),
        (
            {
                "gdpo/runs/record.py": "from .folder import open_run",
                "gdpo/runs/folder.py": "from . import record",
            },
            "circle of modules: gdpo.runs.folder <-> gdpo.runs.record",
        ),
        (
            {"gdpo/errors.py": "def name():\n    from .training.trainer import train\n"},
            "arrow upwards: gdpo.errors -> gdpo.training.trainer",
        ),
        (
            {"gdpo/runs/folder.py": "from ... import nodes"},
            "arrow upwards: gdpo.runs.folder -> nodes",
        ),
        ({"gdpo/attic.py": ""}, "without a floor, to be entered in FLOORS: gdpo.attic"),
    ],
    ids=[
        "rooms in a circle",
        "modules in a circle",
        "inside a function",
        "library to nodes",
        "no floor",
    ],
)
def test_script_fails_on_a_planted_fault(tmp_path, files, fault):
    found = run_script("--root", plant(tmp_path, **files))
    assert found.returncode == 1, found.stderr
    assert fault in found.stdout.splitlines()


def test_imports_for_the_type_checker_do_not_count(tmp_path):
    text = "if TYPE_CHECKING:\n    from .training.trainer import train\n"
    found = run_script("--root", plant(tmp_path, **{"gdpo/errors.py": text}))
    assert found.returncode == 0, found.stdout


def test_folder_without_the_pack_is_refused(tmp_path):
    found = run_script("--root", tmp_path)
    assert found.returncode != 0
    assert "has no Python files in gdpo/ or nodes/" in found.stderr
