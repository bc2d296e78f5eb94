"""Prompts that say nothing of the reward furthest behind, by hand."""

from __future__ import annotations

import pytest
import torch

from gdpo.objective.director import Director
from gdpo.objective.objective import combine_rewards
from gdpo.objective.waiting import Patience, held_back, stuck
from gdpo.rewards import SCORERS, Reward

NAN = float("nan")
TARGETS = torch.tensor([1.0, 1.0])
BOTH = torch.tensor([True, True])
# The first reward is furthest behind. Prompts: one right, all wrong, all right, not scored, the second reward constant.
FIRST = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [NAN, NAN], [0.0, 1.0]])
SECOND = torch.tensor([[0.2, 0.4], [0.3, 0.5], [0.1, 0.9], [0.0, 1.0], [0.5, 0.5]])
REWARDS = torch.stack([FIRST, SECOND]).double()


def told(deficits, alive=BOTH):
    return stuck(REWARDS, TARGETS, torch.tensor(deficits), alive).tolist()


def test_only_the_reward_furthest_behind_counts_and_only_below_its_target():
    assert told([0.9, 0.5]) == [False, True, False, False, False]
    assert told([0.4, 0.5]) == [False, False, False, False, True]


def test_a_reward_that_is_nearly_there_is_not_waited_for():
    assert not any(told([0.09, 0.05]))


def test_a_reward_that_never_told_completions_apart_is_not_waited_for():
    assert told([0.9, 0.5], torch.tensor([False, True])) == [False, False, False, False, True]
    assert not any(told([0.9, 0.5], torch.tensor([False, False])))


def test_stuck_prompts_ask_for_less_unless_all_are():
    advantages = torch.ones(2, 3, 2)
    held = held_back(advantages, torch.tensor([False, True, False]), 1.0)
    assert held.sum((0, 2)).tolist() == [4, 0, 4]
    half = held_back(advantages, torch.tensor([False, True, False]), 0.5)
    assert half.sum((0, 2)).tolist() == [4, 2, 4]
    assert torch.equal(held_back(advantages, torch.tensor([True] * 3), 1.0), advantages)


def test_patience_follows_what_second_draws_find():
    known = Patience()
    assert known.share == 1
    known.learn(torch.tensor([False, True]))
    assert known.found == pytest.approx(0.9 + 0.1 * 0.5)
    for _ in range(80):
        known.learn(torch.tensor([True, True]))
    assert known.share < 0.03
    for _ in range(3):
        known.learn(torch.tensor([False]))
    assert known.share == 1


def director(weighting="directed"):
    rewards = [Reward("a", SCORERS["Politeness"]()), Reward("b", SCORERS["Conciseness"]())]
    return Director(combine_rewards(rewards, weighting=weighting))


def test_a_run_waits_from_the_end_of_its_warmup_on():
    known = director()
    for _ in range(3):
        assert not known.stuck(REWARDS).any()
        known.decide(known.observe(REWARDS))
    assert known.stuck(REWARDS).any()
    fixed = director("fixed")
    for _ in range(5):
        fixed.decide(fixed.observe(REWARDS))
    assert not fixed.stuck(REWARDS).any()


def test_a_reward_that_is_always_the_same_holds_nobody_back():
    never = torch.stack([torch.zeros(5, 2), SECOND]).double()
    known = director()
    for _ in range(5):
        known.decide(known.observe(never))
    assert known.stuck(never).tolist() == [False, False, False, False, True]


def test_progress_is_told_by_the_first_draws_alone():
    known, other = director(), director()
    known.observe(REWARDS[:, [0, 2, 4]])
    other.observe(REWARDS[:, [0, 2, 4, 1, 1]], prompts=3)
    assert known._means.tolist() == pytest.approx(other._means.tolist())


def test_patience_is_kept_with_the_state():
    known, other = director(), director()
    for _ in range(5):
        plan = known.decide(known.observe(REWARDS))
        known.measure(plan, torch.eye(2).double(), torch.ones(10).double())
    known.learn(REWARDS)
    assert 0 < known.state()["_found"] < 1
    other.restore(known.state())
    assert other.state() == known.state()
