"""What the tests of `run.py` share: the program as a module, its environment in a folder of the test."""

from __future__ import annotations

import pytest
from loaded_pack import ROOT, load_file


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
