from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from gdpo.errors import MethodError
from gdpo.objective.director import Director
from gdpo.objective.methods import METHODS, weighted_sum
from gdpo.objective.objective import combine_rewards
from gdpo.objective.weighting import Weighting
from gdpo.rewards import SCORERS
from gdpo.rewards.reward import Reward

F64 = torch.float64


def rewards(*preferences: float) -> list[Reward]:
    scorer = SCORERS["Conciseness"]()
    return [Reward(f"r{k}", scorer, preference=p, target=0.9) for k, p in enumerate(preferences)]


def observe_and_decide(director: Director, scores: torch.Tensor, gradients: torch.Tensor):
    """Feed one step with rewards (K, B, G) and per-completion gradients (N, P)."""
    plan = director.decide(director.observe(scores))
    mixed = plan.advantages.flatten(1) @ gradients / len(gradients)
    return director.measure(plan, mixed @ mixed.T, gradients.square().sum(1))


def reward_advantages(objective, scores, scale):
    return objective.method.advantages(objective.scores(scores, scale))


def combine_advantages(objective, weights, parts, scores, ratios):
    ones = torch.ones(len(weights), dtype=F64)
    return objective.method.combine(objective.scores(scores, ones), weights, parts, ratios)


def steps(method: str, count: int, weighting: str = "directed"):
    objective = combine_rewards(
        rewards(1.0, 3.0), method=method, weighting=weighting, dispersion_floor=0.0
    )
    director = Director(objective)
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        scores = torch.rand(2, 4, 4, generator=generator, dtype=F64)
        gradients = torch.randn(16, 50, generator=generator, dtype=F64)
        yield director, observe_and_decide(director, scores, gradients)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"gdpo"}))
def test_published_methods_keep_the_preferences_as_weights(method):
    for _, direction in steps(method, 8):
        torch.testing.assert_close(direction.weights, torch.tensor([0.25, 0.75], dtype=F64))


def test_gdpo_starts_with_the_preferences_and_then_directs():
    found = [direction.weights for _, direction in steps("gdpo", 12)]
    torch.testing.assert_close(found[0], torch.tensor([0.25, 0.75], dtype=F64))
    assert not torch.allclose(found[-1], found[0], atol=1e-3)


def test_the_reward_that_lags_gains_weight():
    director = Director(combine_rewards(rewards(1.0, 1.0), dispersion_floor=0.0))
    generator = torch.Generator().manual_seed(1)
    for step in range(25):
        base = torch.tensor([0.2 + 0.03 * step, 0.2], dtype=F64)[
            :, None, None
        ]  # only the first rises
        noise = 0.05 * torch.rand(2, 4, 4, generator=generator, dtype=F64)
        gradients = torch.randn(16, 50, generator=generator, dtype=F64)
        direction = observe_and_decide(director, base + noise, gradients)
    assert direction.deficits[0] < direction.deficits[1]
    assert direction.weights[1] > 1.5 * direction.weights[0]


def test_progress_is_that_of_the_step_itself():
    director = Director(combine_rewards(rewards(1.0, 1.0), dispersion_floor=0.0))  # targets 0.9
    generator = torch.Generator().manual_seed(9)
    gradients = torch.randn(16, 50, generator=generator, dtype=F64)
    for level in (0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9):
        first = level + torch.linspace(-0.1, 0.1, 16, dtype=F64).view(4, 4)
        scores = torch.stack([first, 0.1 + 0.1 * torch.rand(4, 4, generator=generator, dtype=F64)])
        direction = observe_and_decide(director, scores, gradients)
    # The first reward jumped to its target in the last step: nothing of its way is left, only maintenance is.
    assert float(direction.deficits[0]) == pytest.approx(0.0, abs=1e-9)
    assert float(direction.preferences[0]) == pytest.approx(0.2 * 0.5)
    assert direction.weights[1] > 4 * direction.weights[0]


def test_a_reward_with_preference_zero_is_only_watched():
    for weighting in ("directed", "upgrad", "mgda"):
        watched = combine_rewards(rewards(1.0, 1.0, 0.0), weighting=weighting)
        alone = combine_rewards(rewards(1.0, 1.0), weighting=weighting)
        directors = Director(watched), Director(alone)
        generator = torch.Generator().manual_seed(4)
        for _ in range(8):
            scores = torch.rand(3, 4, 4, generator=generator, dtype=F64)
            gradients = torch.randn(16, 50, generator=generator, dtype=F64)
            three = observe_and_decide(directors[0], scores, gradients)
            two = observe_and_decide(directors[1], scores[:2], gradients)
        assert three.weights[2] == 0
        torch.testing.assert_close(three.weights[:2], two.weights, rtol=1e-6, atol=1e-9)
        assert three.dispersion == pytest.approx(two.dispersion)


def test_a_reward_that_scores_for_the_first_time_later_starts_there():
    director = Director(combine_rewards(rewards(1.0, 1.0)))  # targets 0.9
    generator = torch.Generator().manual_seed(5)
    for step in range(40):
        scores = 0.2 * torch.rand(2, 4, 4, generator=generator, dtype=F64)
        scores[1] = torch.nan if step < 5 else scores[1] + (0.4 if step == 5 else 0.8)
        found = observe_and_decide(
            director, scores, torch.randn(16, 50, generator=generator, dtype=F64)
        )
    assert found.deficits[1] < 0.1 < found.deficits[0]


def test_a_state_of_another_version_is_refused():
    from gdpo.errors import TrainingError

    with pytest.raises(TrainingError, match="start a new run"):
        Director(combine_rewards(rewards(1.0))).restore({"_steps": 3, "objective": None})


def test_a_state_with_the_weights_that_older_versions_kept_is_taken():
    (director, _), *_ = steps("gdpo", 1)
    other = Director(director.objective)
    other.restore({**director.state(), "_decided": [0.25, 0.75]})
    assert other.state() == director.state()
    without = {name: value for name, value in director.state().items() if name != "_found"}
    other.restore(without)
    assert other.state() == director.state()


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("_steps", 0),
        ("_steps", True),
        ("_scale", None),
        ("_means", [0.1]),
        ("_starts", ["x", 0.1]),
        ("_gramian", [[1.0, 0.0], [0.0, float("inf")]]),
        ("_gramian", {}),
        ("_found", None),
        ("_found", True),
        ("_found", 1.5),
        ("_found", float("nan")),
    ],
)
def test_a_damaged_state_is_refused_by_its_entry(entry, value):
    from gdpo.errors import TrainingError

    (director, _), *_ = steps("gdpo", 1)
    with pytest.raises(TrainingError, match=f"'{entry}' should be") as caught:
        Director(director.objective).restore({**director.state(), entry: value})
    assert "\n" not in str(caught.value)


def test_a_director_goes_on_from_its_state_exactly():
    original = [direction for _, direction in steps("gdpo", 9)]
    director = None
    for number, (current, direction) in enumerate(steps("gdpo", 9)):
        if number == 4:
            saved = json.loads(json.dumps(current.state()))
            director = Director(current.objective)
            director.restore(saved)
        if number == 8:
            assert torch.equal(direction.weights, original[8].weights)
    # Replay steps 5 to 8 on the restored one with the same data.
    generator = torch.Generator().manual_seed(0)
    for number in range(9):
        scores = torch.rand(2, 4, 4, generator=generator, dtype=F64)
        gradients = torch.randn(16, 50, generator=generator, dtype=F64)
        if number > 4:
            replayed = observe_and_decide(director, scores, gradients)
    assert torch.equal(replayed.weights, original[8].weights)
    assert torch.equal(replayed.cosines, original[8].cosines)


def test_one_step_with_a_very_long_gradient_does_not_rule_the_conflict_map():
    maps = []
    for odd in (False, True):
        director = Director(combine_rewards(rewards(1.0, 1.0)))
        generator = torch.Generator().manual_seed(11)
        for step in range(30):
            # Two rewards that want different things: gradients along the first or the second half.
            scores = torch.rand(2, 8, 8, generator=generator, dtype=F64)
            halves = (scores - scores.mean(2, keepdim=True)).flatten(1)
            gradients = torch.cat([halves[:1].T.expand(-1, 5), halves[1:].T.expand(-1, 5)], dim=1)
            if odd and step == 20:  # long, and the same for both
                gradients = 30 * gradients.sum(1, keepdim=True).expand(-1, 10)
            direction = observe_and_decide(director, scores, gradients)
        maps.append(float(direction.cosines[0, 1]))
    assert abs(maps[0]) < 0.2
    assert abs(maps[1]) < 0.6  # unlimited, that one step makes it 0.97


def test_a_reward_that_never_scored_does_not_spoil_the_others():
    director = Director(combine_rewards(rewards(1.0, 1.0)))
    generator = torch.Generator().manual_seed(2)
    for _ in range(6):
        scores = torch.rand(2, 4, 4, generator=generator, dtype=F64)
        scores[1] = torch.nan
        direction = observe_and_decide(
            director, scores, torch.randn(16, 50, generator=generator, dtype=F64)
        )
    assert torch.isfinite(direction.weights).all()
    assert json.loads(json.dumps(director.state(), allow_nan=False))["_means"][1] is None


@pytest.mark.parametrize("method", ["gdpo_decoupled", "gd2po", "saturation_aware"])
def test_methods_that_whiten_end_with_standard_deviation_one(method):
    objective = combine_rewards(rewards(1.0, 2.0, 3.0), method=method)
    scores = torch.rand(3, 8, 6, generator=torch.Generator().manual_seed(6), dtype=F64)
    parts = reward_advantages(objective, scores, torch.ones(3, dtype=F64))
    found = combine_advantages(objective, objective.preferences, parts, scores, torch.zeros(8, 6))
    taken = found[found != 0]
    assert float(taken.std()) == pytest.approx(1.0, abs=1e-3)
    assert float(taken.mean()) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("method", ["grpo", "corr_grpo"])
def test_methods_that_normalise_in_the_group_are_the_plain_weighted_sum(method):
    objective = combine_rewards(rewards(1.0, 2.0), method=method)
    scores = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(7), dtype=F64)
    parts = reward_advantages(objective, scores, torch.ones(2, dtype=F64))
    found = combine_advantages(objective, objective.preferences, parts, scores, torch.zeros(4, 6))
    torch.testing.assert_close(found, parts[0] / 3 + 2 * parts[1] / 3)


def test_gd2po_is_published_gdpo_where_no_rewards_disagree():
    base = torch.rand(1, 4, 6, generator=torch.Generator().manual_seed(8), dtype=F64)
    scores = torch.cat([base, 3 * base + 1])
    found = []
    for method in ("gd2po", "gdpo_decoupled"):
        objective = combine_rewards(rewards(1.0, 2.0), method=method)
        parts = reward_advantages(objective, scores, torch.ones(2, dtype=F64))
        found.append(
            combine_advantages(objective, objective.preferences, parts, scores, torch.zeros(4, 6))
        )
    torch.testing.assert_close(*found)


def test_saturation_is_measured_in_the_rewards_own_range():
    # Conciseness has the range [0, 1]: half of it is reached, so every part is (1 - 0.5)^0.5 of published GDPO's.
    objective = combine_rewards(rewards(1.0), method="saturation_aware")
    assert objective.lows.tolist() == [0.0]
    scores = torch.tensor([[[0.25, 0.75]]], dtype=F64)
    ones = torch.ones(1, dtype=F64)
    published = reward_advantages(
        combine_rewards(rewards(1.0), method="gdpo_decoupled"), scores, ones
    )
    torch.testing.assert_close(reward_advantages(objective, scores, ones), 0.5**0.5 * published)


def test_one_reward_gives_the_same_direction_under_gdpo_decoupled_and_grpo():
    scores = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(3), dtype=F64)
    scale = torch.ones(1, dtype=F64)
    flat = [
        reward_advantages(combine_rewards(rewards(1.0), method=m), scores, scale).flatten()
        for m in ("gdpo_decoupled", "grpo")
    ]
    assert float(torch.nn.functional.cosine_similarity(*flat, dim=0)) == pytest.approx(1.0)


def test_a_method_and_a_weighting_of_ones_own_direct_a_run():
    """Twice the weight for the first reward, and no normalisation: the advantages are their weighted sum."""
    method = replace(METHODS["gdpo"], name="mine", combine=weighted_sum)

    def doubled(gramian, preferences, deficit):
        return preferences * torch.tensor([2.0, 1.0])

    objective = combine_rewards(
        rewards(1.0, 1.0), method=method, weighting=doubled, dispersion_floor=0.0
    )
    director = Director(objective)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        scores = torch.rand(2, 4, 4, generator=generator, dtype=F64)
        gradients = torch.randn(16, 50, generator=generator, dtype=F64)
        direction = observe_and_decide(director, scores, gradients)
    torch.testing.assert_close(direction.weights, torch.tensor([2 / 3, 1 / 3], dtype=F64))
    parts = reward_advantages(objective, scores, torch.ones(2, dtype=F64))
    found = combine_advantages(objective, direction.weights, parts, scores, torch.zeros(4, 4))
    torch.testing.assert_close(found, 2 / 3 * parts[0] + parts[1] / 3)


@pytest.mark.parametrize(
    "own",
    [
        {"method": replace(METHODS["gdpo"], directs=False)},
        {"weighting": Weighting("directed", "", lambda gramian, u, deficit: u)},
    ],
)
def test_what_is_ones_own_cannot_pass_for_what_is_built_in(own):
    with pytest.raises(MethodError, match="needs a name of its own"):
        combine_rewards(rewards(1.0, 1.0), **own)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rewards": []}, "Found 0"),
        ({"rewards": rewards(*[1.0] * 17)}, "Found 17"),
        ({"rewards": rewards(1.0) * 2}, "named 'r0'"),
        ({"rewards": rewards(0.0)}, "preferences are 0"),
        ({"rewards": rewards(1.0), "method": "ppo"}, "Found 'ppo'"),
        ({"rewards": rewards(1.0), "weighting": "x"}, "Found 'x'"),
        ({"rewards": rewards(1.0), "dispersion_floor": 1.5}, "Found 1.5"),
        ({"rewards": rewards(1.0), "dispersion_floor": float("nan")}, "Found nan"),
    ],
)
def test_what_cannot_be_combined_is_refused_in_one_line(arguments, message):
    with pytest.raises(MethodError, match=message) as caught:
        combine_rewards(**arguments)
    assert "\n" not in str(caught.value)
