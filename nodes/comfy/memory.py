"""Makes our models known to ComfyUI, so that its "unload models" and other models' need of memory move them away.

ComfyUI counts and unloads what `ModelPatcher` objects stand for. Each base gets one, which puts the whole base
away instead of patching it. The base itself, and every cached output that refers to it, stays valid.
"""

from __future__ import annotations

import weakref
from functools import lru_cache
from typing import Any

from ...gdpo.policies.base import Base, bring_back, put_away

# Base -> its ModelPatcher, which ends with the base: ComfyUI holds it weakly.
_patchers: weakref.WeakKeyDictionary[Base, Any] = weakref.WeakKeyDictionary()


def make_room(*bases: Base) -> None:
    """Let ComfyUI unload all models but `bases`, ours and its own, and bring `bases` to their devices."""
    from comfy import model_management as manager

    wanted = [_patcher(base) for base in bases]
    kept = [one for one in manager.current_loaded_models if one.model in wanted]
    manager.free_memory(1e30, manager.get_torch_device(), keep_loaded=kept)
    manager.soft_empty_cache()
    manager.load_models_gpu(wanted)


def _patcher(base: Base) -> Any:
    if base not in _patchers:
        _patchers[base] = _patcher_class()(base)
    return _patchers[base]


@lru_cache(maxsize=1)
def _patcher_class() -> type:
    """Made when first needed: ComfyUI's class exists only inside its process."""
    import torch
    from comfy.model_patcher import ModelPatcher

    class GDPOLanguageModel(torch.nn.Module):
        """Stands in for the base's module: ComfyUI writes attributes of its own on the model it is given."""

    class BasePatcher(ModelPatcher):
        """Moves a base as a whole; there is nothing to patch."""

        def __init__(self, base: Base) -> None:
            device = torch.device(base.device)
            if device.type == "cuda" and device.index is None:  # ComfyUI compares devices by index
                device = torch.device("cuda", torch.cuda.current_device())
            stand_in = GDPOLanguageModel()
            stand_in.device = device
            size = base.model.get_memory_footprint()
            super().__init__(stand_in, device, torch.device("cpu"), size=size)
            self._base = weakref.ref(base)

        def current_loaded_device(self) -> torch.device:
            base = self._base()
            return self.offload_device if base is None else base.model.device

        def loaded_size(self) -> int:
            return self.size if self.current_loaded_device() == self.load_device else 0

        def partially_load(self, _device: Any, *_more: object, **_options: object) -> int:
            before, base = self.loaded_size(), self._base()
            if base is not None:
                bring_back(base)
            return self.loaded_size() - before

        def partially_unload(self, _device: Any, *_more: object, **_options: object) -> int:
            before, base = self.loaded_size(), self._base()
            if base is not None:
                put_away(base)  # does nothing while the base is in use
            return before - self.loaded_size()

        def detach(self, unpatch_all: bool = True) -> Any:
            if unpatch_all:  # else the patcher alone is let go, and the weights stay
                self.partially_unload(self.offload_device)
            return self.model

        def clone(self) -> BasePatcher:
            return self

    return BasePatcher
