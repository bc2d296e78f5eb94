"""The rewards of a file's answers have a say in whether it holds: hand-worked cases, two of them seen on a real model."""

from __future__ import annotations

import pytest

from gdpo.export.by_rewards import judged_by_rewards
from gdpo.export.report import Report, judge
from gdpo.export.verify import FileCheck
from gdpo.rewards import AnswerMatch, Reward

REWARD = Reward("right", AnswerMatch())
TENSORS = {"Q8_0": {"Q8_0": 127}, "Q4_K_M": {"Q4_K": 27}}


def judged(kind, kl, after, *, top1=0.97, answers=64, before=1.0, problems=()):
    check = FileCheck(kl, top1, 613, problems, ())
    holds, why = judge(kind, "fp32", check, TENSORS[kind])
    rewards = {"right": {"policy": before, "gguf": after}}
    report = Report(kind, kl, top1, 613, holds, why, TENSORS[kind], 1, rewards)
    return judged_by_rewards(report, "fp32", check, [REWARD], answers)


def test_a_file_over_its_limit_with_all_its_rewards_holds():
    found = judged("Q8_0", 0.0069, 1.0)
    assert found.holds is True
    assert "every reward is that of the policy, though" in found.why
    assert "KL of 0.0069" in found.why


@pytest.mark.parametrize("kl", [0.001, 0.39, 0.74])
def test_a_file_that_lost_what_was_trained_does_not_hold_whatever_its_kl(kl):
    found = judged("Q4_K_M", kl, 0.61)
    assert found.holds is False
    assert "'right' falls from 1.00 to 0.61" in found.why


def test_four_times_the_limit_and_other_faults_are_no_matter_of_rewards():
    assert judged("Q8_0", 0.021, 1.0).holds is False
    assert judged("Q8_0", 0.0069, 1.0, top1=0.5).holds is False
    assert judged("Q8_0", 0.0069, 1.0, problems=("another chat template",)).holds is False


def test_a_fall_counts_beyond_two_standard_errors_of_so_many_answers():
    assert judged("Q8_0", 0.001, 0.7, answers=8).holds is True  # 0.30 of 0.35
    assert judged("Q8_0", 0.001, 0.7, answers=64).holds is False  # of 0.125
    assert judged("Q8_0", 0.0069, 0.9, answers=64).holds is False  # not lost, but not the same


def test_a_rise_is_no_fall_and_a_reward_that_is_gone_is_lost():
    assert judged("Q8_0", 0.001, 1.0, before=0.2).holds is True
    assert "from 1.00 to nothing" in judged("Q8_0", 0.001, None).why
