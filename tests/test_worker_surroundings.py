"""A worker gets nothing of its parent but what computing needs, and runs no code that it reads of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from strangers import honest_model, plant

from gdpo.errors import ExportError
from gdpo.workers import process as worker
from gdpo.workers.surroundings import environment


@pytest.fixture
def evil(tmp_path, monkeypatch) -> Path:
    """A model's folder with code in it, at a place that a path relative to the working directory names."""
    monkeypatch.chdir(tmp_path)
    folder = honest_model(tmp_path / "models" / "LLM" / "evil")
    plant(folder, tmp_path / "mark")
    yield folder
    assert not (tmp_path / "mark").exists(), "code of the model ran"


def ask(tmp_path: Path, code: str) -> dict:
    """What a worker with this code answers, `say(value)` being its answer."""
    script = tmp_path / "script.py"
    say = "def say(value): open(sys.argv[2], 'w').write(json.dumps({'value': value}) + '\\n')\n"
    script.write_text(f"import json, os, sys\n{say}{code}\n", encoding="utf-8")
    return worker.run_worker(script, {"task": "Asking"})[0]["value"]


def test_worker_gets_no_secret_and_no_place_of_the_parent(tmp_path, monkeypatch):
    secrets = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "GITHUB_TOKEN", "CUDA_TOKEN")
    for name in (*secrets, "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE", "LD_PRELOAD"):
        monkeypatch.setenv(name, "the-secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = ask(tmp_path, "say([dict(os.environ), os.getcwd(), os.listdir(), sys.path])")
    variables, folder, files, path = found
    assert "the-secret" not in variables.values()
    assert variables["CUDA_VISIBLE_DEVICES"] == ""
    assert variables["HF_HUB_OFFLINE"] == variables["TRANSFORMERS_OFFLINE"] == "1"
    home = Path(folder).with_name("home")
    assert {variables[name] for name in ("HOME", "HF_HOME", "HF_MODULES_CACHE")} == {str(home)}
    assert files == []
    assert "" not in path
    assert str(tmp_path) not in path  # its own script's folder
    assert os.getcwd() not in path


def test_worker_imports_nothing_from_where_a_stranger_can_write(evil, tmp_path, monkeypatch):
    for place in (tmp_path, evil):
        plant(place, tmp_path / "mark", "numpy.py")
        plant(place, tmp_path / "mark", "sitecustomize.py")
        plant(place, tmp_path / "mark", "usercustomize.py")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(tmp_path), str(evil)]))
    assert ask(tmp_path, "import numpy\nsay(hasattr(numpy, 'ndarray'))") is True


def test_worker_opens_no_connection(tmp_path):
    code = "import socket\nsocket.create_connection(('127.0.0.1', 9))"
    with pytest.raises(ExportError, match="opens no connections"):
        ask(tmp_path, code)
    with pytest.raises(ExportError, match="opens no connections"):
        ask(tmp_path, "import urllib.request\nurllib.request.urlopen('http://localhost:9/')")


def test_environment_keeps_what_computing_needs(tmp_path):
    kept = {"PATH": "/bin", "OMP_NUM_THREADS": "1", "LC_ALL": "C", "LLAMA_CPP_LIB_PATH": "/x"}
    made = environment({**kept, "MKL_PASSWORD": "x", "SSH_AUTH_SOCK": "x"}, tmp_path)
    assert made.items() >= kept.items()
    assert "x" not in made.values()
    assert made["GOMP_SPINCOUNT"] == "20000"
    assert "GOMP_SPINCOUNT" not in environment({"OMP_WAIT_POLICY": "active"}, tmp_path)
