from __future__ import annotations

import copy

import pytest

from gdpo.runs.diagnosis import diagnose, telling_cosines


def healthy(steps: int = 20) -> list[dict]:
    return [
        {
            "step": step,
            "rewards": {
                n: {"mean": 0.3 + 0.01 * step, "std": 0.2, "dead_groups": 0.1} for n in ("a", "b")
            },
            "deficits": {"a": 0.5, "b": 0.5},
            "cosines": [[1.0, -0.2], [-0.2, 1.0]],
            "truncated": 0.05,
            "entropy": 1.5,
            "kl": 0.05,
            "grad_norm": 0.4,
            "length": {"mean": 40.0, "std": 10.0},
        }
        for step in range(1, steps + 1)
    ]


def with_evaluations(history: list[dict], first: float, last: float) -> list[dict]:
    for record, mean in ((history[0], first), (history[-1], last)):
        record["eval"] = {
            "rewards": {n: {"mean": mean, "standard_error": 0.02} for n in ("a", "b")}
        }
    return history


def change(history: list[dict], since: int, **values) -> list[dict]:
    return history[:since] + [{**copy.deepcopy(record), **values} for record in history[since:]]


def test_a_healthy_run_gives_no_finding():
    assert diagnose(with_evaluations(healthy(), 0.3, 0.5)) == []


@pytest.mark.parametrize("length", [0, 1, 4])
def test_too_little_history_gives_no_finding(length):
    assert diagnose(change(healthy(length), 0, truncated=1.0)) == []


@pytest.mark.parametrize(
    ("values", "check", "words"),
    [
        ({"truncated": 0.95}, "truncated", "95%"),
        ({"entropy": 0.1}, "entropy", "1.50 to 0.10"),
        ({"length": {"mean": 3.0, "std": 1.0}}, "length", "40 to 3"),
        ({"grad_norm": 8.0}, "gradient", "20 times"),
        ({"kl": 3.0}, "distance", "3.0 nats"),
        ({"cosines": [[1.0, 0.98], [0.98, 1.0]]}, "alike", "'a' and 'b'"),
    ],
)
def test_each_trouble_is_named_with_its_number_and_goes_away_with_its_cause(values, check, words):
    ill = change(healthy(), 14, **values)
    assert [finding.check for finding in diagnose(ill)] == [check]
    assert words in diagnose(ill)[0].text
    cured = ill + [{**record, "step": record["step"] + 20} for record in healthy(5)]
    assert diagnose(cured) == []


def test_a_reward_that_is_constant_in_most_groups_is_named_unless_it_is_at_its_target():
    dead = {"mean": 0.01, "std": 0.0, "dead_groups": 0.95}
    history = change(healthy(), 14, rewards={"a": dead, "b": healthy(1)[0]["rewards"]["b"]})
    assert [(f.check, "'a'" in f.text) for f in diagnose(history)] == [("dead", True)]
    assert diagnose(change(history, 14, deficits={"a": 0.0, "b": 0.5})) == []
    # Nearly there on the average of the last steps is there.
    assert diagnose(change(history, 14, deficits={"a": 0.09, "b": 0.5})) == []
    assert diagnose(change(history, 14, deficits={"a": 0.2, "b": 0.5})) != []


def test_rewards_at_their_targets_are_not_said_to_pull_the_same_way():
    alike = change(healthy(), 14, cosines=[[1.0, 0.98], [0.98, 1.0]])
    assert [f.check for f in diagnose(alike)] == ["alike"]
    assert diagnose(change(alike, 14, deficits={"a": 0.05, "b": 0.5})) == []


def test_a_map_leaves_out_rewards_that_are_at_their_targets():
    rows = [[1.0, 0.1, 0.2], [0.1, 1.0, 0.3], [0.2, 0.3, 1.0]]
    record = {"cosines": rows, "deficits": {"a": 0.5, "b": 0.05, "c": None}}
    assert telling_cosines(record) == [[1.0, None, 0.2], [None, 1.0, None], [0.2, None, 1.0]]
    assert telling_cosines({**record, "deficits": {"a": 0.5, "b": 0.05, "c": -0.1}}) is None
    assert telling_cosines({"cosines": rows}) == rows
    assert telling_cosines({"cosines": rows, "deficits": {"a": 0.0}}) == rows
    assert telling_cosines({"cosines": [[1.0]], "deficits": {"a": 0.0}}) == [[1.0]]


def test_a_reward_that_only_rises_in_training_is_named():
    history = with_evaluations(healthy(), 0.5, 0.3)
    assert {finding.check for finding in diagnose(history)} == {"held-out"}
    assert diagnose(with_evaluations(healthy(), 0.5, 0.47)) == []  # within two standard errors


def test_nulls_in_the_history_are_left_out():
    history = change(
        healthy(), 14, truncated=None, entropy=None, kl=None, cosines=[[1.0, None], [None, 1.0]]
    )
    assert diagnose(history) == []


def test_a_reward_that_never_scored_is_found_and_one_that_did_once_is_not():
    nothing = {"mean": None, "std": None, "dead_groups": None}
    history = healthy()
    for record in history:
        record["rewards"]["a"] = nothing
    assert [(f.check, "'a'" in f.text) for f in diagnose(history)] == [("unscored", True)]
    history[3]["rewards"]["a"] = {"mean": 0.5, "std": 0.2, "dead_groups": 0.1}
    assert diagnose(history) == []


def natural(steps: int = 20) -> list[dict]:
    """A healthy run of natural steps: half of what each reward's direction promises is signal."""
    more = {"step_kl": 0.3, "step_shortened": False, "signals": {"a": 0.5, "b": 0.5}}
    return [{**record, **more} for record in healthy(steps)]


def checks(history: list[dict]) -> list[str]:
    return [finding.check for finding in diagnose(history)]


def test_steps_without_signal_are_said_to_be_noise_and_no_longer_once_one_reward_has_some():
    assert checks(natural()) == []
    noise = change(natural(), 10, signals={"a": 0.04, "b": 0.0})
    assert checks(noise) == ["noise"]
    assert "raise group_size or prompts_per_step" in diagnose(noise)[0].text
    # Of the last ten steps four still had 0.5.
    assert checks(change(natural(), 14, signals={"a": 0.0, "b": 0.0})) == []
    # The mean of b is 0.06: (4 * 0.15 + 6 * 0) / 10.
    assert checks(change(noise, 16, signals={"a": 0.0, "b": 0.15})) == []
    # 0.04: (4 * 0.1 + 6 * 0) / 10.
    assert checks(change(noise, 16, signals={"a": 0.0, "b": 0.1})) == ["noise"]


def test_noise_is_told_of_ten_steps_and_of_rewards_that_are_not_at_their_targets():
    noise = change(natural(10), 0, signals={"a": 0.0, "b": 0.0})
    assert checks(noise[:9]) == []
    assert checks(noise) == ["noise"]
    fine = change(noise, 0, signals={"a": 0.0, "b": 0.5})
    assert checks(fine) == []
    # b is there; only a is left, and a is noise.
    assert checks(change(fine, 0, deficits={"a": 0.5, "b": 0.05})) == ["noise"]
    # Both are there: nothing is wrong.
    assert checks(change(fine, 0, deficits={"a": 0.05, "b": 0.05})) == []
    # A reward that told no completion from another has no signal, and says nothing.
    assert checks(change(noise, 0, signals={"a": None, "b": 0.0})) == ["noise"]
    assert checks(change(noise, 0, signals={"a": None, "b": None})) == []


def test_steps_that_went_too_far_are_told_from_the_third_in_ten_on():
    history = natural()
    for record in (history[4], history[10], history[19]):
        record["step_shortened"] = True
    assert checks(history) == []  # the first of them is too long ago
    history[15]["step_shortened"] = True
    assert checks(history) == ["step-far"]
    assert "In 3 of the last 10 steps" in diagnose(history)[0].text
    assert "lower step_size" in diagnose(history)[0].text
    assert checks([*history, *natural(1)]) == []


@pytest.mark.parametrize("values", [{"entropy": 0.1}, {"kl": 3.0}])
def test_a_remedy_names_the_setting_that_the_run_s_optimiser_has(values):
    (plain,), (found,) = (diagnose(change(run, 14, **values)) for run in (healthy(), natural()))
    assert "ower learning_rate" in plain.text
    assert "ower step_size" in found.text
    assert not {"learning_rate", "max_grad_norm"} & set(found.text.replace(".", " ").split())


def test_a_long_gradient_makes_no_natural_step_longer():
    assert checks(change(healthy(), 14, grad_norm=8.0)) == ["gradient"]
    assert checks(change(natural(), 14, grad_norm=8.0)) == []
