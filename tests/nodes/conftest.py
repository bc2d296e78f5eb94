"""What the tests of the nodes share: a host's folders, and the bundled model."""

from __future__ import annotations

import pytest
from loaded_pack import call, host_folders, submodule


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Folders of a host without ComfyUI, where nobody has asked for a stop."""
    monkeypatch.setitem(submodule("nodes.comfy.progress")._state, "stop", False)
    with host_folders(tmp_path) as chosen:
        yield chosen


@pytest.fixture(scope="module")
def starter():
    """The bundled model."""
    return call("GDPOLoadModel", model="starter (bundled)", device="cpu")[0]


@pytest.fixture
def parts(starter):
    """The bundled model, eight prompts and two rewards that differ in what they want."""
    rewards, objectives = submodule("gdpo.rewards"), submodule("gdpo.objective.objective")
    (few,) = call("GDPOLoadPrompts", file="support desk: train", limit=8)
    one = rewards.Reward("short", rewards.Conciseness(unit="characters", shortest=0, longest=1))
    two = rewards.Reward("polite", rewards.Politeness())
    objective = objectives.combine_rewards([one, two])
    return {"model": starter, "prompts": few, "rewards": objective}
