"""The benchmark's measures, on numbers worked out by hand."""

from __future__ import annotations

import random

import pytest

from benchmarks.convergence import measures, pairs
from benchmarks.convergence.claims import claims
from benchmarks.convergence.natural_arms import LEADING


def test_targets_are_nine_tenths_of_the_way():
    assert measures.targets([0.0, 0.5], [1.0, 0.7]) == pytest.approx([0.9, 0.68])


def test_a_run_converges_when_every_reward_holds_its_target_for_three_evaluations():
    steps = [0, 5, 10, 15, 20, 25]
    curve = [[0.0, 0.0], [0.9, 0.8], [0.9, 0.9], [0.9, 0.9], [0.95, 0.9], [0.2, 0.9]]
    assert measures.converged_at(steps, curve, [0.9, 0.9]) == 10
    assert measures.converged_at(steps, curve, [0.9, 0.91]) is None
    assert measures.converged_at(steps[:4], curve[:4], [0.9, 0.9]) is None  # held twice only


def test_progress_and_hypervolume_are_shares_of_the_way_at_the_end():
    curve = [[0.2, 0.5], [0.6, 0.5], [0.6, 0.4], [0.6, 0.6]]
    # Ends: 0.6 and 0.5; ways: 0.8 and 0.5.
    assert measures.progress(curve, [1.0, 1.0]) == pytest.approx([0.5, 0.0])
    assert measures.hypervolume(curve, [1.0, 1.0]) == 0
    assert measures.hypervolume(curve, [1.0, 0.5 + 1e-9]) == pytest.approx(0.0, abs=1e-6)
    assert measures.hypervolume([[0.2, 0.5], *[[0.6, 0.6]] * 3], [1.0, 1.0]) == pytest.approx(0.1)


def test_below_start_needs_more_than_two_standard_errors():
    curve = [[0.5], [0.4], [0.4], [0.4]]
    assert measures.below_start(curve, [[0.03], [0.03]])  # 2 * 0.042 = 0.085 < 0.1
    assert not measures.below_start(curve, [[0.04], [0.04]])  # 0.113


def test_a_straight_path_does_not_oscillate_and_a_detour_counts_by_its_length():
    straight = [[x / 10] for x in range(11)]
    assert measures.excess_path(straight) == pytest.approx(0.0)
    # Smoothed over three: 0, 0, 1/3, 2/3, 1, 2/3, 1/3, 1/3, 2/3, 1, 1: path 1 + 2/3 + 2/3, way 1.
    detour = [[v] for v in (0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1)]
    assert measures.excess_path(detour) == pytest.approx(4 / 3)
    assert measures.excess_path(detour, noise=0.1) == pytest.approx(4 / 3 - 1.0)


def test_the_sampling_errors_path_is_that_of_smoothed_noise():
    rng = random.Random(0)
    curve = [[0.0]] + [[1 + 0.02 * rng.gauss(0, 1)] for _ in range(20_000)]
    told = measures.sampling_path({"means": curve, "errors": [[0.0], [0.02]]})
    # The one way up is no excess; all the rest is noise, at each of 20,000 evaluations.
    assert measures.excess_path(curve) == pytest.approx(told, rel=0.02)


def test_wilson_intervals_are_those_of_the_tables():
    assert measures.wilson(5, 11) == pytest.approx((0.2127, 0.7199), abs=1e-3)
    assert measures.wilson(9, 11) == pytest.approx((0.5230, 0.9486), abs=1e-3)
    assert measures.wilson(0, 0) == (0.0, 1.0)


def test_kaplan_meier_steps_down_at_each_convergence_and_ends_at_the_limit():
    times = [10, 20, 20, None]
    assert measures.kaplan_meier(times, 100) == [
        (0, 1.0),
        (10, 0.75),
        (20, pytest.approx(0.25)),
        (100, pytest.approx(0.25)),
    ]
    assert measures.median_steps(times, 100) == 20
    assert measures.median_steps([10, None, None], 100) is None
    assert measures.restricted_mean(times, 100) == 37.5


def test_two_arms_are_compared_run_by_run():
    steps = [0, 5, 10, 15, 20]
    quick = {"task": "t", "steps": steps, "means": [[0.0], [0.5], [1.0], [1.0], [1.0]]}
    never = {"task": "t", "steps": steps, "means": [[0.0], [0.5], [0.5], [0.5], [0.5]]}
    found = pairs.compare([quick, quick], [quick, never], {"t": [1.0]}, 0.0)
    assert (found["pairs"], found["only_first"], found["only_second"]) == (2, 1, 0)
    assert found["steps_ratio"][0] == pytest.approx((10 + 10) / (10 + 20), abs=1e-4)
    assert found["steps_ratio"][1] <= found["steps_ratio"][0] <= found["steps_ratio"][2]


def test_the_bootstrap_of_a_constant_ratio_is_that_ratio():
    assert pairs.ratio_of_means([(1.0, 2.0)] * 5) == [0.5, 0.5, 0.5]


def test_the_articles_claims_are_set_beside_what_was_found():
    ideals = {"support3": [1.0, 1.0, 1.0]}

    def record(arm: str, accuracy: float, spread: float) -> dict:
        curve = [[0.0] * 3] + [[accuracy, 1.0, 1.0]] * 4
        return {
            "task": "support3",
            "arm": arm,
            "preference": "equal",
            "seed": 0,
            "steps": [0, 5, 10, 15, 20],
            "means": curve,
            "errors": [[0.0] * 3] * 2,
            "length_std": [3.0, spread],
        }

    records = [record(LEADING, 1.0, 1.0), record("group_dpo", 0.8, 2.0)]
    against = {"group_dpo": pairs.compare(records[:1], records[1:], ideals, 0.0)}
    found = {row["claim"]: row["found"] for row in claims(records, ideals, 0.0, against)}
    assert found["support assistant: accuracy +20 %"] == "1.00 instead of 0.80 (+25 %)"
    assert found["support assistant: spread of lengths -35 %"] == "1.00 instead of 2.00 (-50 %)"
    assert found["with more rewards it does not get worse"] == "3 rewards: 100 % instead of 0 %"
    # Converged at step 5, against never within 20 steps.
    assert found["in 7 h instead of 12: 0.58 times"].startswith("0.25 times")
    assert claims(records[:1], ideals, 0.0, {}) == []
