"""The loop on real models: it learns, draws its prompts and stops in time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_training import PROMPTS, SETTINGS, LetterShare, objective

from gdpo.errors import TrainingError
from gdpo.objective.methods import METHODS
from gdpo.objective.objective import combine_rewards
from gdpo.rewards.reward import Reward
from gdpo.runs.history import read_history
from gdpo.settings import TrainSettings
from gdpo.training.trainer import train


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_trains_and_records(tiny_policy, tmp_path, method):
    result = train(
        tiny_policy, PROMPTS, objective(method), replace(SETTINGS, steps=2), tmp_path / "run"
    )
    records = read_history(result.folder)
    assert [r["step"] for r in records] == [1, 2]
    for record in records:
        assert set(record["rewards"]) == {"vowels", "consonants"}
        assert record["grad_norm"] > 0
        assert record["entropy"] > 0
        assert record["kl"] >= 0
        assert 0.5 <= record["dispersion"] <= 1
        assert record["cosines"][0][0] == pytest.approx(1.0, abs=1e-6)
    assert any(
        tensor.any() for name, tensor in result.policy.adapter.state.items() if "lora_B" in name
    )


def test_a_reward_rises_in_training(tiny_policy, tmp_path):
    only = combine_rewards([Reward("vowels", LetterShare("aeiou"))])
    settings = replace(SETTINGS, steps=60, group_size=8, prompts_per_step=4, eval_every=60)
    train(tiny_policy, PROMPTS, only, settings, tmp_path / "run", heldout=PROMPTS * 20)
    first, last = (
        r["eval"]["rewards"]["vowels"] for r in read_history(tmp_path / "run") if "eval" in r
    )
    error = (first["standard_error"] ** 2 + last["standard_error"] ** 2) ** 0.5
    assert last["mean"] > first["mean"] + 3 * error


def test_training_leaves_the_input_policy_unchanged(tiny_policy, tmp_path):
    before = {name: tensor.clone() for name, tensor in tiny_policy.base.model.state_dict().items()}
    train(tiny_policy, PROMPTS, objective(), replace(SETTINGS, steps=1), tmp_path / "run")
    after = tiny_policy.base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert tiny_policy.adapter is None


def test_every_prompt_is_drawn_once_in_each_epoch_in_a_new_order():
    from gdpo.training.schedule import draw, learning_rate

    drawn = [p.text for step in range(1, 11) for p in draw(PROMPTS, 2, step, seed=3)]
    names = sorted(p.text for p in PROMPTS)
    chunks = [drawn[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(chunk) == names for chunk in chunks)
    assert len({tuple(chunk) for chunk in chunks}) > 1
    assert [learning_rate(1.0, step, 4) for step in (1, 2, 4, 9)] == [0.25, 0.5, 1.0, 1.0]
    assert learning_rate(1.0, 1, 0) == 1.0


def test_stops_when_every_reward_has_held_its_target(tiny_policy, tmp_path):
    easy = combine_rewards([Reward("vowels", LetterShare("aeiou"), target=0.001)])
    settings = replace(SETTINGS, steps=50, eval_every=1, stop_when_converged=True)
    train(tiny_policy, PROMPTS, easy, settings, tmp_path / "run", heldout=PROMPTS)
    records = read_history(tmp_path / "run")
    assert records[-1]["step"] == 2  # evaluations at steps 0, 1 and 2
    assert [r["converged"] for r in records] == [False, False, True]


def test_evaluations_only_at_the_end(tiny_policy, tmp_path):
    settings = replace(SETTINGS, steps=2, eval_every=0)
    train(tiny_policy, PROMPTS, objective(), settings, tmp_path / "run", heldout=PROMPTS)
    records = read_history(tmp_path / "run")
    assert [r["step"] for r in records if "eval" in r] == [2]


def test_stopping_by_evaluations_that_are_never_made_is_refused_early():
    with pytest.raises(TrainingError, match="`eval_every` 0"):
        TrainSettings(eval_every=0, stop_when_converged=True)
