"""Shares the card with ComfyUI: which device to use, room for our models, and memory given back after work."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Iterator
from typing import Any

from ...gdpo.policies.base import Base
from . import host

# Base -> its ModelPatcher, which ends with the base: ComfyUI holds it weakly.
_patchers: weakref.WeakKeyDictionary[Base, Any] = weakref.WeakKeyDictionary()


def choose_device(device: str) -> str:
    """`auto` becomes the card that ComfyUI works on, where it is one that training can use."""
    if device != "auto" or not host.is_comfyui():
        return device
    import comfy.model_management  # pyright: ignore[reportMissingImports]  ComfyUI's own

    chosen = comfy.model_management.get_torch_device()
    return str(chosen) if chosen.type in {"cpu", "cuda"} else "auto"


def make_room(*bases: Base) -> None:
    """Ask ComfyUI to unload all models but `bases`, ours and its own, and bring `bases` to their devices."""
    if not host.is_comfyui():
        return
    from comfy import model_management as manager  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]  ComfyUI's own

    wanted = [_patcher(base) for base in bases]
    kept = [one for one in manager.current_loaded_models if one.model in wanted]
    manager.free_memory(1e30, manager.get_torch_device(), keep_loaded=kept)
    manager.soft_empty_cache()
    manager.load_models_gpu(wanted)


def _patcher(base: Base) -> Any:
    from .patcher import BasePatcher  # needs ComfyUI

    if base not in _patchers:
        _patchers[base] = BasePatcher(base)
    return _patchers[base]


@contextlib.contextmanager
def releasing() -> Iterator[None]:
    """After the block give back what its work held: Python's cycles first, then the card's cached blocks.

    Not after an interrupt, which should be quick, and whose traceback still holds everything: ComfyUI itself
    does the same some seconds later.
    """
    yield
    gc.collect()
    if host.is_comfyui():
        import comfy.model_management  # pyright: ignore[reportMissingImports]  ComfyUI's own

        comfy.model_management.soft_empty_cache()
