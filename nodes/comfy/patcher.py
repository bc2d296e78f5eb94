"""Makes our models known to ComfyUI, so that its "unload models" and other models' need of memory move them away.

ComfyUI counts and unloads what `ModelPatcher` objects stand for. Each base gets one, which puts the whole base
away instead of patching it. The base itself, and every cached output that refers to it, stays valid. This module can
be imported inside ComfyUI's process only.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher  # pyright: ignore[reportMissingImports]  ComfyUI's own

from ...gdpo.policies.base import Base, bring_back, put_away


class GDPOLanguageModel(torch.nn.Module):
    """Stands in for the base's module: ComfyUI writes attributes of its own on the model it is given."""


class BasePatcher(ModelPatcher):
    """Moves a base as a whole; there is nothing to patch."""

    def __init__(self, base: Base) -> None:
        """Stand for `base`, which is held weakly."""
        device = torch.device(base.device)
        if device.type == "cuda" and device.index is None:  # ComfyUI compares devices by index
            device = torch.device("cuda", torch.cuda.current_device())
        stand_in: Any = GDPOLanguageModel()
        stand_in.device = device
        size = base.model.get_memory_footprint()
        super().__init__(stand_in, device, torch.device("cpu"), size=size)
        self._base = weakref.ref(base)

    def current_loaded_device(self) -> torch.device:
        """Device that the weights are on now."""
        base = self._base()
        return self.offload_device if base is None else base.model.device

    def loaded_size(self) -> int:
        """Return bytes on the device where the base works: all or none."""
        return self.size if self.current_loaded_device() == self.load_device else 0

    def partially_load(self, _device: Any, *_more: object, **_options: object) -> int:
        """Bring the whole base to its device; the bytes that came."""
        before, base = self.loaded_size(), self._base()
        if base is not None:
            bring_back(base)
        return self.loaded_size() - before

    def partially_unload(self, _device: Any, *_more: object, **_options: object) -> int:
        """Put the whole base away, unless it is in use; the bytes that went."""
        before, base = self.loaded_size(), self._base()
        if base is not None:
            put_away(base)
        return before - self.loaded_size()

    def detach(self, unpatch_all: bool = True) -> Any:
        """Put the base away; without `unpatch_all` only the patcher is let go, and the weights stay."""
        if unpatch_all:
            self.partially_unload(self.offload_device)
        return self.model

    def clone(self) -> BasePatcher:
        """Return the patcher itself: a base has only one."""
        return self
