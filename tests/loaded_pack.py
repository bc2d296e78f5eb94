"""The pack, loaded the way ComfyUI loads it: by the path of its folder, not as `gdpo` and `nodes`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def load_file(path: Path) -> ModuleType:
    """A module from a file, outside of any package."""
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


headless = load_file(ROOT / "nodes" / "headless" / "program.py")
PACK = headless.load_pack(ROOT)


def submodule(name: str) -> ModuleType:
    """A module of the loaded pack, e.g. `nodes.headless.workflow`; not the same as an import of that name."""
    return headless.submodule(PACK, name)
