"""The llama.cpp that `run.py` compiles uses no instructions that end a process in some virtual machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_it_is_built_without_amx():
    if not (Path(sys.prefix) / "made_by_run.json").exists():
        pytest.skip("this environment was not made by run.py")
    pytest.importorskip("llama_cpp")
    code = "import llama_cpp; print(llama_cpp.llama_print_system_info().decode())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "CPU" in told.stdout
    assert "AMX_INT8 = 1" not in told.stdout
