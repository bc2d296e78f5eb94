from __future__ import annotations

import pytest
import torch

from gdpo.objective import weighting
from gdpo.objective.dispersion import dispersion, spread
from gdpo.objective.gramian import positive_semidefinite
from gdpo.objective.projection import project

F64 = torch.float64


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


def random_gramian(count: int, seed: int) -> torch.Tensor:
    rows = torch.randn(count, 7, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return rows @ rows.T


def test_deficit_by_hand():
    # start 0.2, target 0.8: at 0.5 half the way is left; at 0.9 nothing; at -1.0 it is cut at 2
    ones = torch.ones(3, dtype=F64)
    found = weighting.deficits(vector(0.5, 0.9, -1.0), 0.2 * ones, 0.8 * ones, ones)
    torch.testing.assert_close(found, vector(0.5, 0.0, 2.0))


def test_deficit_of_a_reward_that_started_at_its_target_stays_finite():
    # the way counts as at least 5 % of the range: (0.8 - 0.79) / 0.05 = 0.2
    found = weighting.deficits(vector(0.79), vector(0.8), vector(0.8), vector(1.0))
    torch.testing.assert_close(found, vector(0.2))


def test_without_conflict_the_weights_are_the_working_preferences():
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=F64)
    found = weighting.directed(matrix, vector(0.5, 0.5), vector(1.0, 0.2))
    # p_k = u_k delta_k + 0.2 mean(u): 0.5 + 0.1 and 0.1 + 0.1
    torch.testing.assert_close(found, vector(0.6, 0.2))


def test_two_conflicting_rewards_by_hand():
    # p = (0.5 * 1 + 0.1, 0.5 * 0 + 0.1) = (0.6, 0.1). Reward 0 lags; g_0 . g_1 = -8, so g_1 yields: g_1 + 8 g_0 is
    # orthogonal to g_0. alpha = 0.6 (1, 0) + 0.1 (8, 1).
    matrix = torch.tensor([[1.0, -8.0], [-8.0, 100.0]], dtype=F64)
    found = weighting.directed(matrix, vector(0.5, 0.5), vector(1.0, 0.0))
    torch.testing.assert_close(found, vector(1.4, 0.1))
    assert float(matrix[0] @ weighting.yielding(matrix, vector(1.0, 0.0))[1]) == pytest.approx(0.0)


def test_a_leader_yields_even_where_the_step_as_a_whole_would_not_harm():
    matrix = torch.tensor([[1.0, -1.0], [-1.0, 4.0]], dtype=F64)  # g_0 . (0.6 g_0 + 0.1 g_1) = 0.5
    found = weighting.directed(matrix, vector(0.5, 0.5), vector(1.0, 0.0))
    torch.testing.assert_close(found, vector(0.7, 0.1))


def test_equal_deficits_protect_nobody():
    matrix = torch.tensor([[1.0, -8.0], [-8.0, 100.0]], dtype=F64)
    found = weighting.directed(matrix, vector(0.5, 0.5), vector(1.0, 1.0))
    torch.testing.assert_close(found, vector(0.6, 0.6))


def test_three_rewards_by_hand():
    # g_0 = (1, 0), g_1 = (0, 1), g_2 = (-9, -3); p = (1.2, 1.1, 0.2) / 3. The first two leave each other alone; all of
    # g_2 is against them: g_2 + 9 g_0 + 3 g_1 = 0.
    gradients = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-9.0, -3.0]], dtype=F64)
    third = torch.full((3,), 1 / 3, dtype=F64)
    found = weighting.directed(gradients @ gradients.T, third, vector(1.0, 0.9, 0.0))
    torch.testing.assert_close(found, vector(1.2 + 9 * 0.2, 1.1 + 3 * 0.2, 0.2) / 3)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_no_part_of_the_step_pushes_back_what_lags_behind_it_and_each_is_the_nearest_such(count):
    for seed in range(10):
        matrix = positive_semidefinite(random_gramian(count, seed))
        deficit = torch.rand(count, generator=torch.Generator().manual_seed(seed + 100), dtype=F64)
        rows = weighting.yielding(matrix, deficit)
        scale = float(matrix.diagonal().max())
        assert torch.equal(rows[deficit.argmax()], torch.eye(count, dtype=F64)[deficit.argmax()])
        for k, row in enumerate(rows):
            raised = row - torch.eye(count, dtype=F64)[k]
            behind = deficit > deficit[k] + weighting._LEAD
            gains = matrix @ row
            # The conditions of the projection: feasible, multipliers on those behind alone, complementary.
            assert (gains[behind] > -1e-8 * scale).all(), seed
            assert float(raised.min()) >= 0, seed
            assert torch.equal(raised[~behind], torch.zeros_like(raised[~behind])), seed
            complementary = float((raised * gains)[behind].abs().sum())
            assert complementary < 1e-8 * scale * (1 + float(raised.max())), seed


def test_rules_that_draw_at_random_repeat_themselves_and_leave_the_hosts_generator_alone():
    matrix, u, deficit = (
        random_gramian(5, 2),
        torch.full((5,), 0.2, dtype=F64),
        torch.ones(5, dtype=F64),
    )
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(weighting.WEIGHTINGS["pcgrad"].rule(matrix, u, deficit))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*found)


def test_a_lag_within_the_noise_protects_nobody():
    matrix = torch.tensor([[1.0, -8.0], [-8.0, 100.0]], dtype=F64)
    found = weighting.directed(matrix, vector(0.5, 0.5), vector(1.0, 0.96))
    torch.testing.assert_close(found, vector(0.6, 0.58))


def test_protection_raises_a_weight_to_four_preferences_at_most():
    # p = (0.25 + 0.1, 0.1); g_1 + 20 g_0 would make the first weight 0.35 + 0.1 * 20 = 2.35.
    matrix = torch.tensor([[1.0, -20.0], [-20.0, 401.0]], dtype=F64)
    found = weighting.directed(matrix, vector(0.5, 0.5), vector(0.5, 0.0))
    torch.testing.assert_close(found, vector(4 * 0.35, 0.1))


def test_by_deficit_ignores_the_gradients():
    matrix = torch.tensor([[1.0, -1.0], [-1.0, 4.0]], dtype=F64)
    found = weighting.WEIGHTINGS["by_deficit"].rule(matrix, vector(0.5, 0.5), vector(1.0, 0.0))
    torch.testing.assert_close(found, vector(0.6, 0.1))


def test_a_loud_preference_pulls_harder_only_until_its_target():
    far = weighting.working_preference(vector(0.8, 0.2), vector(1.0, 1.0))
    torch.testing.assert_close(far, vector(0.9, 0.3))
    there = weighting.working_preference(vector(0.8, 0.2), vector(0.0, 0.0))
    torch.testing.assert_close(there, vector(0.1, 0.1))


# PCGrad is left out: it projects in a random order.
@pytest.mark.parametrize("rule", sorted(set(weighting.WEIGHTINGS) - {"pcgrad"}))
def test_permuting_the_rewards_permutes_the_weights(rule):
    matrix, preferences = random_gramian(4, 5), vector(0.1, 0.2, 0.3, 0.4)
    deficit, order = vector(0.9, 0.1, 0.5, 0.3), [2, 0, 3, 1]
    plain = weighting.WEIGHTINGS[rule].rule(matrix, preferences, deficit)
    shuffled = weighting.WEIGHTINGS[rule].rule(
        matrix[order][:, order], preferences[order], deficit[order]
    )
    torch.testing.assert_close(shuffled, plain[order], rtol=1e-3, atol=1e-4)


def test_torchjd_rules_are_torchjds():
    from torchjd.aggregation import DualProjWeighting, MGDAWeighting, UPGradWeighting

    matrix, u, deficit = random_gramian(3, 1), vector(0.5, 0.3, 0.2), torch.ones(3, dtype=F64)
    for rule, expected in {
        "upgrad": UPGradWeighting(pref_vector=u)(matrix),
        "dualproj": DualProjWeighting(pref_vector=u)(matrix),
        "mgda": MGDAWeighting()(matrix) * u,
    }.items():
        torch.testing.assert_close(weighting.WEIGHTINGS[rule].rule(matrix, u, deficit), expected)


def test_upgrad_is_the_preference_without_conflict():
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=F64)
    found = weighting.WEIGHTINGS["upgrad"].rule(matrix, vector(0.7, 0.3), vector(1.0, 1.0))
    torch.testing.assert_close(found, vector(0.7, 0.3), rtol=1e-3, atol=1e-3)


def test_spread_blends_just_far_enough():
    # Orthogonal gradients of equal length, weights (1, 0.1): dispersion far below 0.9.
    matrix, weights = torch.eye(2, dtype=F64), vector(1.0, 0.1)
    assert dispersion(weights, matrix) < 0.6
    found = spread(weights, matrix, vector(0.5, 0.5), 0.9)
    assert dispersion(found, matrix) == pytest.approx(0.9, abs=1e-4)
    assert found[0] > found[1]
    assert float(found.sum()) == pytest.approx(1.1)


def test_spread_finds_a_floor_that_is_reached_in_the_middle_of_the_way_only():
    # Contributions a_k |g_k| go from (1, 0.1) through equal ones to (0.1, 1): dispersion is 1 in the middle.
    matrix, weights = torch.diag(vector(1.0, 100.0)), vector(1.0, 0.01)
    even = vector(0.1, 10.0)  # preference / norm = (0.1, 1.0)
    assert dispersion(weights, matrix) < 0.6
    found = spread(weights, matrix, even, 0.9)
    assert dispersion(found, matrix) == pytest.approx(0.9, abs=1e-3)
    assert found[0] > 10 * found[1]  # the first such point, not the last


def test_spread_changes_nothing_above_the_floor_or_where_it_cannot_be_reached():
    weights = vector(0.6, 0.5)
    assert torch.equal(spread(weights, torch.eye(2, dtype=F64), weights, 0.7), weights)
    alike = torch.ones(
        2, 2, dtype=F64
    )  # twice the same reward: dispersion 1/2 whatever the weights
    assert torch.equal(spread(weights, alike, weights, 0.7), weights)


def test_dualproj_with_a_margin_by_hand():
    # M u = (0.7, -0.2); asked for 0.3 u_k M_kk = (0.24, 0.06). The first holds; lambda_2 = 0.06 + 0.2 = 0.26 makes
    # the second hold, and then the first has 0.7 - 0.13 = 0.57 still. alpha = (0.8, 0.46).
    matrix = torch.tensor([[1.0, -0.5], [-0.5, 1.0]], dtype=F64)
    found = weighting.dualproj_margin(matrix, vector(0.8, 0.2), vector(1.0, 1.0))
    torch.testing.assert_close(found, vector(0.8, 0.46))


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_dualproj_with_a_margin_is_optimal(count):
    for seed in range(10):
        matrix = positive_semidefinite(random_gramian(count, seed))
        preferences = (
            torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=F64) + 0.1
        )
        raised = (
            weighting.WEIGHTINGS["dualproj_margin"].rule(matrix, preferences, torch.ones(count))
            - preferences
        )
        slack = matrix @ (preferences + raised) - 0.3 * preferences * matrix.diagonal()
        scale = float(matrix.diagonal().max())
        # The conditions of the quadratic program: feasible, multipliers not negative, complementary.
        assert float(slack.min()) > -1e-8 * scale, seed
        assert float(raised.min()) >= 0, seed
        complementary = float((raised * slack).abs().max())
        assert complementary < 1e-8 * scale * (1 + float(raised.max())), seed


def test_dualproj_with_a_margin_changes_nothing_without_conflict():
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=F64)
    found = weighting.WEIGHTINGS["dualproj_margin"].rule(matrix, vector(0.7, 0.3), vector(1.0, 0.2))
    torch.testing.assert_close(found, vector(0.7, 0.3))


def test_dualproj_with_a_vanishing_margin_is_torchjds(monkeypatch):
    pytest.importorskip("torchjd")
    monkeypatch.setattr(weighting, "_MARGIN", 0.0)
    matrix = positive_semidefinite(random_gramian(4, 3))
    preferences = vector(0.4, 0.3, 0.2, 0.1)
    ours, theirs = (
        weighting.WEIGHTINGS[rule].rule(matrix, preferences, torch.ones(4))
        for rule in ("dualproj_margin", "dualproj")
    )
    assert not torch.allclose(ours, preferences, atol=1e-2)
    # torchjd adds 1e-4 to the diagonal of the matrix, scaled to trace 1, before it solves.
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize("seed", range(10))
def test_a_projection_meets_the_conditions_of_the_nearest_point(seed):
    """Karush, Kuhn, Tucker: feasible, moved along protected gradients only, and only as far as needed."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randn(5, 1, generator=generator, dtype=F64).mul(5).exp()  # from 1e-5 to 1e5
    gradients = torch.randn(5, 7, generator=generator, dtype=F64) * lengths
    matrix = positive_semidefinite(gradients @ gradients.T)
    start, faces = torch.rand(5, generator=generator, dtype=F64), [0, 2, 3]
    least = 0.1 * torch.rand(5, generator=generator, dtype=F64) * matrix.diagonal()
    moved = project(matrix, start, faces, least)
    multipliers = moved - start
    assert multipliers[[1, 4]].eq(0).all()
    assert multipliers.min() >= 0
    slack = ((matrix @ moved - least) / matrix.diagonal().sqrt())[faces]
    size = float((matrix.diagonal().sqrt() * moved).abs().sum())
    assert slack.min() > -1e-8 * size
    pull = (multipliers * matrix.diagonal().sqrt())[faces]
    assert float((slack * pull).abs().max()) < 1e-8 * size**2


def test_nothing_is_projected_that_pushes_nothing_back():
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=F64)
    assert torch.equal(project(matrix, vector(0.7, 0.3), [0, 1], vector(0, 0)), vector(0.7, 0.3))
