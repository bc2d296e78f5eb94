"""A reward that cannot score the prompts is told before the first step, not by a column of None."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_training import PROMPTS, SETTINGS, objective

from gdpo.errors import RewardError
from gdpo.objective.objective import combine_rewards
from gdpo.rewards import AnswerMatch
from gdpo.rewards.reward import Reward
from gdpo.training.trainer import train


def test_a_reward_that_can_score_no_prompt_is_refused_before_the_run_folder_is_made(
    tiny_policy, tmp_path
):
    wrong = combine_rewards([Reward("right", AnswerMatch(mode="numeric"))])
    rows = [replace(p, fields={"answer": "#### 72"}) for p in PROMPTS]
    with pytest.raises(RewardError, match=r"can score none of the 5 prompts.*'answer'"):
        train(tiny_policy, rows, wrong, SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_reward_that_can_score_some_prompts_is_told_and_trains(tiny_policy, tmp_path, caplog):
    some = combine_rewards([*objective().rewards, Reward("right", AnswerMatch(mode="numeric"))])
    rows = [replace(p, fields={"reference": 72} if i < 2 else {}) for i, p in enumerate(PROMPTS)]
    train(tiny_policy, rows, some, replace(SETTINGS, steps=1), tmp_path / "run")
    assert "can score 2 of 5 prompts (40 %)" in caplog.text
