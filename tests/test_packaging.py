"""What `pip install .` installs: the library with its data, importable far from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that setuptools builds from pyproject.toml, as it goes into a wheel."""
    pytest.importorskip("setuptools")
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "target"))
    for name in NEEDED:
        shutil.copy(ROOT / name, source / name)
    for name in ("gdpo", "nodes"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "__init__.py", source)
    build = "import setuptools; setuptools.setup()"
    command = [sys.executable, "-c", build, "-q", "build", "--build-lib", str(target)]
    subprocess.run(command, check=True, cwd=source)
    return target


def test_the_installed_library_can_be_imported_and_has_its_data(installed, tmp_path):
    program = (
        "import gdpo; from pathlib import Path; from gdpo.starter import MODEL_DIR, TRAIN_PROMPTS\n"
        "print(Path(gdpo.__file__).parent)\n"
        "assert (MODEL_DIR / 'model.safetensors').is_file() and TRAIN_PROMPTS.is_file()\n"
        "assert (Path(gdpo.__file__).parent / 'py.typed').is_file()\n"
        "from gdpo.llamacpp.runtime import minimal_build_args; assert 'lean.cmake' in minimal_build_args()\n"
        "assert len(gdpo.load_prompts(str(TRAIN_PROMPTS))) > 10\n"
        "import gdpo.training.trainer, gdpo.export.pipeline, gdpo.evaluation.comparison\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(found.stdout.strip()) == installed / "gdpo"


def test_every_module_and_data_file_is_installed_and_nothing_else(installed):
    def files(root: Path) -> set[str]:
        found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        return {name for name in found if "__pycache__" not in name}

    assert files(installed / "gdpo") == files(ROOT / "gdpo")
    assert [path.name for path in installed.iterdir()] == ["gdpo"]
