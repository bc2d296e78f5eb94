"""What the attacks share: the fence, and honest things that an attack changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fence import SECRET, STARTER, Fence, call, forget, watched
from loaded_pack import submodule

host = submodule("nodes.comfy.host")


@pytest.fixture
def fence(tmp_path, monkeypatch):
    """Nothing outside is touched, no code of a stranger runs, and nothing is sent."""
    folders = host.Folders(tmp_path / "output", tmp_path / "input", (tmp_path / "models",))
    for folder in (folders.output, folders.inputs, *folders.models):
        folder.mkdir()
    outside = tmp_path / "outside"
    (outside / "gguf").mkdir(parents=True)
    for name in ("secret.txt", "secret.jsonl", "config.json", "tokenizer.json", "x.safetensors"):
        (outside / name).write_text(SECRET)
    made = Fence(folders, outside)
    monkeypatch.delenv(host.DOWNLOAD_SWITCH, raising=False)
    monkeypatch.delenv("GDPO_STRANGER_RAN", raising=False)
    monkeypatch.chdir(tmp_path)
    host.configure(folders)
    before = made.snapshot()
    with watched(outside) as seen:
        yield made
    host.configure(None)
    assert seen == []
    assert "GDPO_STRANGER_RAN" not in os.environ
    assert made.snapshot() == before


@pytest.fixture(scope="module")
def starter():
    """The bundled model."""
    return call("GDPOLoadModel", model=STARTER, device="cpu")[0]


@pytest.fixture(scope="module")
def parts(starter):
    """What a training needs."""
    (few,) = call("GDPOLoadPrompts", file="support desk: train", limit=2)
    (reward,) = call("GDPODefineRewardPoliteness", name="polite")
    (objective,) = call(
        "GDPOCombineRewards",
        reward_1=reward,
        method="gdpo",
        weighting="directed",
        dispersion_floor=0.7,
    )
    return {"model": starter, "prompts": few, "rewards": objective}


@pytest.fixture
def link(fence):
    """Makes a symlink inside the allowed folders that leads outside."""

    def make(path: Path, target: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(fence.outside / target)
        forget()
        return path

    return make


@pytest.fixture
def model(tiny_folder, fence) -> Path:
    """A copy of an honest model in the models folder, for the attack to change."""
    folder = fence.folders.models[0] / "model"
    folder.mkdir()
    for file in tiny_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder
