"""A double of ComfyUI's memory manager, which exists in no package: the part of its interface that this pack uses.

Written from the behaviour of ComfyUI 0.33's `comfy.model_management` and `comfy.model_patcher`. As there, models are
held weakly, `LoadedModel`s are compared by their patcher, freeing goes to a patcher's `partially_unload` where a part
of it is enough and to `detach` otherwise, and loading goes to `partially_load`. The card's size is a number here.
"""

from __future__ import annotations

import weakref
from types import ModuleType

import torch

CARD = torch.device("cuda:0")
EVERYTHING = 1e30


class ModelPatcher:
    """Stands for a model in ComfyUI's lists; a plain one has its weights on its device once it is loaded."""

    def __init__(self, model, load_device, offload_device, size=0, weight_inplace_update=False):
        self.model, self.size = model, size
        self.load_device, self.offload_device = load_device, offload_device
        self.model.model_loaded_weight_memory = 0  # ComfyUI writes on the model it is given

    def model_size(self):
        return self.size

    def loaded_size(self):
        return self.model.model_loaded_weight_memory

    def current_loaded_device(self):
        return self.model.device

    def is_clone(self, other):
        return self.model is getattr(other, "model", None)

    def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
        before, self.model.model_loaded_weight_memory = self.loaded_size(), self.size
        return self.size - before

    def partially_unload(self, device_to, memory_to_free=0, force_patch_weights=False):
        before, self.model.model_loaded_weight_memory = self.loaded_size(), 0
        return before

    def detach(self, unpatch_all=True):
        if unpatch_all:
            self.model.model_loaded_weight_memory = 0
        return self.model


class LoadedModel:
    """An entry of the manager's list."""

    def __init__(self, patcher):
        self._patcher, self.device = weakref.ref(patcher), patcher.load_device

    @property
    def model(self):
        return self._patcher()

    def __eq__(self, other):
        return self.model is other.model

    __hash__ = None

    def unload(self, wanted):
        """Free `wanted` bytes; True where all of the model went, so that it leaves the list."""
        if wanted < self.model.loaded_size():
            freed = self.model.partially_unload(self.model.offload_device, wanted)
            if freed >= wanted:
                return False
        self.model.detach(True)
        return True


class Manager(ModuleType):
    """`comfy.model_management` with a card of `capacity` bytes."""

    def __init__(self, capacity=10_000, device=CARD):
        super().__init__("comfy.model_management")
        self.capacity, self.device = capacity, device
        self.current_loaded_models = []
        self.emptied = 0  # how often the allocator's cache was given back

    def get_torch_device(self):
        return self.device

    def get_free_memory(self):
        alive = (one.model for one in self.current_loaded_models)
        return self.capacity - sum(patcher.loaded_size() for patcher in alive if patcher)

    def soft_empty_cache(self):
        self.emptied += 1

    def free_memory(self, memory_required, device, keep_loaded=()):
        """Unload models of `device` until so many bytes are free."""
        for one in list(self.current_loaded_models):
            wanted = memory_required - self.get_free_memory()
            spared = one.model is None or one.device != device or one in list(keep_loaded)
            if not spared and wanted > 0 and one.unload(wanted):
                self.current_loaded_models = [x for x in self.current_loaded_models if x is not one]

    def load_models_gpu(self, models):
        """Bring models to their devices, the room for them made first."""
        entries = [LoadedModel(patcher) for patcher in models]
        for entry in entries:
            for other in list(self.current_loaded_models):
                if other.model is not None and entry.model.is_clone(other.model):
                    self.current_loaded_models.remove(other)
                    other.model.detach(unpatch_all=False)
        for entry in entries:
            missing = entry.model.model_size() - entry.model.loaded_size()
            self.free_memory(missing, entry.device)
            entry.model.partially_load(entry.device, missing, force_patch_weights=False)
            self.current_loaded_models.insert(0, entry)

    def unload_all_models(self):
        """What the page's "unload models" does."""
        self.free_memory(EVERYTHING, self.device)


def modules(manager: Manager) -> dict[str, ModuleType]:
    """What `sys.modules` gets, by name."""
    package, patchers = ModuleType("comfy"), ModuleType("comfy.model_patcher")
    patchers.ModelPatcher = ModelPatcher
    package.model_management, package.model_patcher = manager, patchers
    return {"comfy": package, manager.__name__: manager, patchers.__name__: patchers}
