"""What `pip install .` installs: the library with its data, importable far from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import gdpo

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which the wheel of this checkout was installed, built without a network."""
    if not (find_spec("pip") and find_spec("setuptools")):
        pytest.skip("building needs pip and setuptools")
    source, wheels, target = (tmp_path_factory.mktemp(n) for n in ("source", "wheels", "target"))
    for name in NEEDED:
        shutil.copy(ROOT / name, source / name)
    for name in ("gdpo", "nodes"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "__init__.py", source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    alone = ("--quiet", "--no-deps", "--no-index")
    build = [*pip, "wheel", *alone, "--no-build-isolation", "--wheel-dir", str(wheels), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "install", *alone, "--target", str(target), str(wheel)], check=True)
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
        "beside = Path(gdpo.__file__).parents[1]  # other packages' folder: nothing is put there\n"
        "assert not any(r.is_relative_to(beside) for r in gdpo.export.converter._roots())\n"
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
    metadata = f"gdpo-{gdpo.__version__}.dist-info"
    assert {path.name for path in installed.iterdir()} == {"gdpo", metadata}
    text = (installed / metadata / "METADATA").read_text(encoding="utf-8")
    assert f"Version: {gdpo.__version__}\n" in text
    assert "Requires-Dist: transformers>=" in text
