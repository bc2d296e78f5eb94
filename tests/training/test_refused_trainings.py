"""Trainings that are refused before they touch a run."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from conftest import make_model
from small_training import PROMPTS, SETTINGS, objective

from gdpo.errors import TrainingError
from gdpo.policies.loading import load_policy
from gdpo.progress import Progress
from gdpo.training.trainer import train


def test_other_settings_do_not_touch_a_run(tiny_policy, tmp_path):
    train(tiny_policy, PROMPTS, objective(), replace(SETTINGS, steps=1), tmp_path / "run")
    before = (tmp_path / "run" / "history.jsonl").read_bytes()
    with pytest.raises(TrainingError, match="another `learning_rate`"):
        train(
            tiny_policy,
            PROMPTS,
            objective(),
            replace(SETTINGS, learning_rate=1e-3),
            tmp_path / "run",
        )
    with pytest.raises(TrainingError, match="another `prompts`"):
        train(tiny_policy, PROMPTS[:2], objective(), SETTINGS, tmp_path / "run")
    assert (tmp_path / "run" / "history.jsonl").read_bytes() == before


def test_fewer_steps_than_a_run_has_are_refused(tiny_policy, tmp_path):
    train(tiny_policy, PROMPTS, objective(), replace(SETTINGS, steps=2), tmp_path / "run")
    with pytest.raises(TrainingError, match="already trained for 2 steps"):
        train(tiny_policy, PROMPTS, objective(), replace(SETTINGS, steps=1), tmp_path / "run")


def test_other_weights_under_the_same_name_are_another_run(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    train(
        load_policy(folder, device="cpu"),
        PROMPTS,
        objective(),
        replace(SETTINGS, steps=1),
        tmp_path / "run",
    )
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "model")
    again = replace(SETTINGS, steps=1)
    train(
        load_policy(moved, device="cpu"), PROMPTS, objective(), again, tmp_path / "run"
    )  # the same model
    make_model(folder, seed=1)
    with pytest.raises(TrainingError, match="another `weights`"):
        train(load_policy(folder, device="cpu"), PROMPTS, objective(), again, tmp_path / "run")


def test_two_trainings_do_not_share_a_folder(tiny_policy, tmp_path):
    class Nested(Progress):
        def record(self, record):
            train(tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "run")

    with pytest.raises(TrainingError, match="is being trained right now"):
        train(tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "run", progress=Nested())


def test_a_run_folder_that_cannot_be_made_is_named(tiny_policy, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match=r"file/run.*cannot be written"):
        train(tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "file" / "run")


def test_training_without_prompts_is_refused(tiny_policy, tmp_path):
    with pytest.raises(TrainingError, match="no prompts"):
        train(tiny_policy, [], objective(), SETTINGS, tmp_path / "run")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 10**9),
        ("group_size", 1),
        ("learning_rate", float("nan")),
        ("optimizer", "lion"),
        ("temperature", -1.0),
        ("learning_rate", float("inf")),
        ("micro_batch", "many"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(field, value):
    with pytest.raises(TrainingError, match=f"`{field}`") as caught:
        replace(SETTINGS, **{field: value})
    assert "\n" not in str(caught.value)
