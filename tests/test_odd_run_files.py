"""Run folders in which pipes, devices and folders stand for files: no reader waits, and each ends in one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from odd_files import ODD, ends, replace

from gdpo import open_run
from gdpo.errors import GDPOError
from gdpo.objective.objective import combine_rewards
from gdpo.plotting import figure
from gdpo.plotting.figure import plot_convergence
from gdpo.policies.loading import load_policy
from gdpo.prompts import make_prompt
from gdpo.rewards import Conciseness, Reward
from gdpo.runs.choose import choose_folder
from gdpo.runs.history import newest_completion, read_history
from gdpo.runs.run_file import read_run
from gdpo.settings import TrainSettings
from gdpo.training.trainer import train

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
STEP = "checkpoints/step-000002"
CHOSEN = TrainSettings(
    steps=2,
    prompts_per_step=1,
    group_size=2,
    max_new_tokens=2,
    lora_rank=1,
    checkpoint_every=1,
)


def begin(policy, folder: Path) -> object:
    """The one training of this file, which resumes a run that is there."""
    reward = Reward("short", Conciseness(unit="characters", shortest=0, longest=9))
    rows = [make_prompt("the printer")]
    return train(policy, rows, combine_rewards([reward]), CHOSEN, folder)


@pytest.fixture(scope="module")
def run(tiny_folder, tmp_path_factory) -> tuple[object, Path]:
    """A policy, and a finished run of it."""
    policy = load_policy(tiny_folder, device="cpu")
    folder = tmp_path_factory.mktemp("runs") / "run"
    begin(policy, folder)
    return policy, folder


def without_sums(folder: Path) -> None:
    """Make the newest checkpoint one of the first format, whose files no sum vouches for."""
    file = folder / STEP / "state.json"
    kept = ("step", "optimizer", "director")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({key: content[key] for key in kept}))


CHECKPOINT = [
    *(f"{STEP}/state.json", f"{STEP}/adapter_config.json", f"{STEP}/adapter_model.safetensors"),
    *(f"{STEP}/optimizer.safetensors", f"{STEP}/more.json"),
]
RUN_FILES = [
    *("run.json", "history.jsonl", "completions.jsonl", "convergence.png", ".lock", *CHECKPOINT),
    *("checkpoints", "checkpoints/damaged-step-000002", "checkpoints/step-000003", ".x.tmp"),
    *("adapter", ".adapter.tmp", "adapter/adapter_config.json", "gguf", "gguf/.export-x/.lock"),
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", [*RUN_FILES, *(f"old {name}" for name in CHECKPOINT)])
def test_a_run_with_an_odd_file_ends_in_a_result_or_one_line(name, odd, run, tmp_path, monkeypatch):
    policy, real = run
    identity = read_run(real)["identity"]
    folder = shutil.copytree(real, tmp_path / "run")
    if name.startswith("old "):
        without_sums(folder)
        name = name.removeprefix("old ")
    if (folder / name).is_dir():
        shutil.rmtree(folder / name)
    replace(folder / name, odd)
    monkeypatch.setattr(figure, "DOTS_PER_INCH", 10)
    readers: list[Callable[[], object]] = [
        lambda: read_history(folder),
        lambda: newest_completion(folder),
        lambda: open_run(folder).load(device="cpu"),
        lambda: choose_folder(tmp_path, "run", identity, fresh=False),
        lambda: begin(policy, folder),
    ]
    if name in {"history.jsonl", "convergence.png"}:  # all that a figure reads or writes
        png = folder / "convergence.png"
        readers.insert(0, lambda: plot_convergence({"run": read_history(folder)}, png))
    for reader in readers:
        found = ends(reader)
        assert isinstance(found, GDPOError) or not isinstance(found, BaseException), repr(found)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "name", ["run.json", "history.jsonl", "completions.jsonl", "findings.json", ".lock"]
)
def test_a_training_begins_in_a_folder_with_an_odd_file_or_says_why_not(name, odd, run, tmp_path):
    replace(tmp_path / "run" / name, odd)
    found = ends(lambda: begin(run[0], tmp_path / "run"))
    assert isinstance(found, GDPOError) or not isinstance(found, BaseException), repr(found)
