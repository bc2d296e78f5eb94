"""The llama.cpp that is installed here, and how to install it; standard library only."""

from __future__ import annotations

import shlex
import sys
from importlib import metadata
from pathlib import Path

# The program that does all work with llama.cpp; `workers.process` runs it.
LLAMA_WORKER = Path(__file__).with_name("worker.py")

_WHEELS = "https://abetlen.github.io/llama-cpp-python/whl"


def runtime_version() -> str | None:
    """Return the installed llama-cpp-python's version without its local part, or None."""
    try:
        return metadata.version("llama_cpp_python").split("+")[0]
    except metadata.PackageNotFoundError:
        return None


def runtime_remedy() -> str:
    """Tell how to install llama-cpp-python here, on one line."""
    command = f"{shlex.quote(sys.executable)} -m pip install llama-cpp-python"
    return (
        f"run `{command}` (compiles for some minutes and needs a C++ compiler), or take a ready wheel: "
        f"`{command} --extra-index-url {_WHEELS}/cpu` (for an NVIDIA card end with cu124 instead of cpu)"
    )


def minimal_build_args() -> str:
    """Return the value of CMAKE_ARGS that builds of llama-cpp-python only what is used here."""
    include = (Path(__file__).resolve().parent / "lean.cmake").as_posix()
    return shlex.join(["-DLLAVA_BUILD=OFF", f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={include}"])
