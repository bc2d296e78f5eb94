"""How our models share the card with ComfyUI's own: the sizes it sees, and what it can put away and bring back.

ComfyUI is in no package, so `comfyui_stand_in.py` takes the place of its memory manager; and where weights move,
a model that only notes its device takes the place of one on a card.
"""

from __future__ import annotations

import gc
import sys
import weakref
from dataclasses import replace

import comfyui_stand_in as comfyui
import pytest
import torch
from loaded_pack import PACK, submodule

host = submodule("nodes.comfy.host")
memory = submodule("nodes.comfy.memory")
bases = submodule("gdpo.policies.base")
PATCHER = f"{PACK.__name__}.nodes.comfy.patcher"


class Model:
    """Notes where it is, and every move."""

    def __init__(self, size):
        self.device, self.size, self.moves = comfyui.CARD, size, []

    def get_memory_footprint(self):
        return self.size

    def to(self, device):
        self.device = torch.device(device)
        self.moves.append(str(device))


class Immovable(Model):
    def to(self, device):
        raise ValueError("4-bit models cannot be moved")


def make_base(size=1000, model=Model):
    return bases.Base(model(size), None, "org/model", "nf4", "cuda:0", "digest")


def foreign(manager, size=2000):
    """A model of ComfyUI's own, loaded."""
    module = torch.nn.Module()
    module.device = comfyui.CARD
    patcher = comfyui.ModelPatcher(module, comfyui.CARD, torch.device("cpu"), size=size)
    manager.load_models_gpu([patcher])
    return patcher


@pytest.fixture
def manager(monkeypatch):
    """The process is ComfyUI's, as far as the pack can see."""
    made = comfyui.Manager()
    for name, module in comfyui.modules(made).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(host, "folder_paths", object())
    yield made
    sys.modules.pop(PATCHER, None)  # its class is a child of the double's
    memory._patchers.clear()


def loaded(manager):
    """The patchers in ComfyUI's list, the newest first."""
    return [one.model for one in manager.current_loaded_models]


def test_comfyui_counts_the_bytes_of_a_real_model(manager, tiny_policy):
    base = tiny_policy.base
    memory.make_room(base)
    (patcher,) = loaded(manager)
    tensors = [*base.model.parameters(), *base.model.buffers()]
    weights = sum(tensor.nbytes for tensor in tensors)
    assert patcher.model_size() == patcher.loaded_size() == weights
    assert patcher.load_device == torch.device("cpu")


def test_room_is_made_by_unloading_all_other_models(manager):
    theirs, ours, wanted = foreign(manager), make_base(), make_base()
    memory.make_room(ours)
    assert theirs.loaded_size() == 0
    memory.make_room(wanted)
    assert [patcher.model_size() for patcher in loaded(manager)] == [1000]
    assert (str(ours.model.device), str(wanted.model.device)) == ("cpu", "cuda:0")
    assert manager.emptied > 0


def test_models_that_are_wanted_stay_without_a_move(manager):
    first, second = make_base(), make_base()
    memory.make_room(first, second)
    memory.make_room(second, first)
    assert first.model.moves == second.model.moves == []
    assert len(loaded(manager)) == 2
    memory.make_room(first)
    assert (first.model.moves, second.model.moves) == ([], ["cpu"])


def test_without_a_wanted_model_everything_goes(manager):
    ours = make_base()
    memory.make_room(ours)
    theirs = foreign(manager)
    memory.make_room()
    assert loaded(manager) == []
    assert (ours.model.moves, theirs.loaded_size()) == (["cpu"], 0)
    assert manager.get_free_memory() == manager.capacity


def test_unload_models_puts_a_base_away_and_its_next_use_brings_it_back(manager):
    base = make_base()
    memory.make_room(base)
    (patcher,) = loaded(manager)
    manager.unload_all_models()
    assert loaded(manager) == []
    assert base.model.moves == ["cpu"]
    assert (patcher.loaded_size(), patcher.model_size()) == (0, 1000)
    assert patcher.current_loaded_device() == torch.device("cpu")
    memory.make_room(base)
    assert base.model.moves == ["cpu", "cuda:0"]
    assert loaded(manager) == [patcher]
    assert patcher.loaded_size() == 1000


def test_a_model_of_comfyui_that_needs_memory_gets_it(manager):
    base = make_base(size=6000)
    memory.make_room(base)
    (patcher,) = loaded(manager)
    theirs = foreign(manager, size=5000)  # 1000 bytes too many for the card
    assert base.model.moves == ["cpu"]
    assert theirs.loaded_size() == 5000
    assert patcher in loaded(manager)  # a part was enough, so the entry stays, with nothing loaded
    assert manager.get_free_memory() == 5000


def test_partial_moves_are_of_the_whole_and_say_how_much_that_was(manager):
    base = make_base()
    memory.make_room(base)
    (patcher,) = loaded(manager)
    cpu = torch.device("cpu")
    assert [patcher.partially_unload(cpu, 10) for _ in range(2)] == [1000, 0]
    loads = [patcher.partially_load(comfyui.CARD, 10, force_patch_weights=True) for _ in range(2)]
    assert loads == [1000, 0]
    assert base.model.moves == ["cpu", "cuda:0"]


def test_a_base_in_use_stays_where_it_is(manager):
    base = make_base()
    memory.make_room(base)
    (patcher,) = loaded(manager)
    with base.lock:
        manager.unload_all_models()
        assert patcher.partially_unload(torch.device("cpu")) == 0
        assert base.model.moves == []
    assert patcher.partially_unload(torch.device("cpu")) == 1000


def test_a_model_that_cannot_be_moved_stays_and_counts(manager, caplog):
    base = make_base(model=Immovable)
    memory.make_room(base)
    (patcher,) = loaded(manager)
    assert patcher.partially_unload(torch.device("cpu")) == 0
    assert patcher.loaded_size() == 1000
    assert "'org/model' stays on cuda:0: 4-bit models cannot be moved" in caplog.text


def test_letting_a_patcher_go_leaves_the_weights(manager):
    base = make_base()
    memory.make_room(base)
    (patcher,) = loaded(manager)
    assert patcher.detach(unpatch_all=False) is patcher.model
    assert base.model.moves == []
    assert patcher.detach() is patcher.model
    assert base.model.moves == ["cpu"]


def test_a_base_has_one_patcher_which_is_its_own_clone(manager):
    base = make_base()
    memory.make_room(base)
    (first,) = loaded(manager)
    memory.make_room(base)
    assert loaded(manager) == [first]
    assert first.clone() is first


def test_a_patcher_ends_with_its_base(manager):
    base = make_base()
    memory.make_room(base)
    (patcher,) = map(weakref.ref, loaded(manager))
    gone = weakref.ref(base.model)
    del base
    gc.collect()
    assert gone() is None
    assert patcher() is None
    assert loaded(manager) == [None]
    memory.make_room(make_base())  # an entry without a model is no obstacle


def test_a_patcher_that_outlives_its_base_has_nothing_loaded(manager):
    base = make_base()
    memory.make_room(base)
    (patcher,) = loaded(manager)
    del base
    gc.collect()
    assert patcher.loaded_size() == 0
    assert patcher.current_loaded_device() == torch.device("cpu")
    assert patcher.partially_load(comfyui.CARD) == patcher.partially_unload(comfyui.CARD) == 0
    manager.unload_all_models()


def test_a_card_without_number_is_the_current_one(manager, monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    base = replace(make_base(), device="cuda")
    memory.make_room(base)
    assert loaded(manager)[0].load_device == comfyui.CARD


@pytest.mark.parametrize(
    ("asked", "comfyui_has", "chosen"),
    [
        ("auto", "cuda:0", "cuda:0"),
        ("auto", "cpu", "cpu"),
        ("auto", "mps", "auto"),
        ("cpu", "cuda:0", "cpu"),
    ],
)
def test_auto_is_the_device_that_comfyui_works_on(manager, asked, comfyui_has, chosen):
    manager.device = torch.device(comfyui_has)
    assert memory.choose_device(asked) == chosen


def test_memory_is_given_back_after_work_and_not_after_an_interrupt(manager):
    with memory.releasing():
        assert manager.emptied == 0
    assert manager.emptied == 1
    with pytest.raises(KeyboardInterrupt), memory.releasing():
        raise KeyboardInterrupt
    assert manager.emptied == 1


def test_without_comfyui_nothing_is_asked_of_it():
    assert not host.is_comfyui()
    base = make_base()
    memory.make_room(base)
    assert base.model.moves == []
    assert memory.choose_device("auto") == "auto"
    with memory.releasing():
        pass
