"""The pack, loaded the way ComfyUI loads it: by the path of its folder, not as `gdpo` and `nodes`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


def call(node_id: str, **inputs: object) -> object:
    """What a node gives for its inputs, with its defaults for the others, as in a host."""
    node_class = PACK.NODE_CLASS_MAPPINGS[node_id]
    return getattr(node_class(), node_class.FUNCTION)(**inputs)


@contextmanager
def host_folders(root: Path) -> Iterator[object]:
    """The folders of a host without ComfyUI, made below `root`, inside the block."""
    host = submodule("nodes.comfy.host")
    chosen = host.Folders(root / "output", root / "input", (root / "models",))
    for folder in (chosen.output, chosen.inputs, *chosen.models):
        folder.mkdir(exist_ok=True)
    host.configure(chosen)
    try:
        yield chosen
    finally:
        host.configure(None)


def traced_once(trace: Callable) -> Callable:
    """A trace of `gdpo.memory`, run once for all trainings that take the same memory.

    Both take longer than the small trainings of the tests, which differ in their learning rate, their
    number of steps and other settings that no tensor depends on.
    """
    known: dict[tuple, object] = {}
    sizes = ("prompts_per_step", "group_size", "micro_batch", "max_new_tokens")
    sizes += ("gradient_checkpointing", "temperature")

    def find(model, vocabulary, settings, *rest):
        numbers = [getattr(settings, name) for name in sizes]
        key = (str(model), next(model.parameters()).dtype, vocabulary, *numbers, *rest)
        if key not in known:
            known[key] = trace(model, vocabulary, settings, *rest)
        return known[key]

    return find


estimation = submodule("gdpo.memory.estimation")
for name in ("trace_update", "trace_sampling"):
    setattr(estimation, name, traced_once(getattr(estimation, name)))
# Fewer dots, so that drawing does not dominate the time of the tests.
submodule("gdpo.plotting.figure").DOTS_PER_INCH = 40
