"""The natural step is the dense one, and what it promises of the policy comes true."""

from __future__ import annotations

import pytest
import torch
from rounding import close
from separate_passes import F64, log_likelihoods, one_pass, separate_passes, terms

from gdpo.update.natural import (
    DAMPING,
    changes,
    damped,
    gram_matrix,
    natural_step,
    parameter_metric,
    predicted_kl,
    regress,
)
from gdpo.update.natural_state import NaturalGradient
from gdpo.update.reward_gradients import RewardGradients
from gdpo.update.signal import left_out, signal_shares

SHAPES = ((3, 2), (2, 5))
P = 3 * 2 + 2 * 5


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def scores_of(count: int, seed: int = 0) -> list[torch.Tensor]:
    return [random(count, *shape, seed=seed + i) for i, shape in enumerate(SHAPES)]


def flat(tensors) -> torch.Tensor:
    """Return matrices as one vector, or the completions' matrices as rows."""
    single = tensors[0].dim() == 2
    return torch.cat([t.flatten() if single else t.flatten(1) for t in tensors], -1)


def dense(scores, metric, wanted, before=None, memory=0.0) -> torch.Tensor:
    """(F + lambda D^-1)^-1 U' (c - mu U w) / N + mu w, all of it P x P."""
    u, d = flat(scores), flat(metric)
    count = len(u)
    least = DAMPING * float((u * d * u).sum(1).mean())
    kept = torch.zeros(P, dtype=F64) if before is None else memory * flat(before)
    fisher = u.T @ u / count + least * torch.diag(1 / d)
    return torch.linalg.solve(fisher, u.T @ (wanted - u @ kept) / count) + kept


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_it_is_the_dense_solve(count):
    """With fewer completions than parameters, more, and one alone."""
    scores, wanted = scores_of(count), random(count, seed=5)
    metric = [random(*shape, seed=9).exp() for shape in SHAPES]
    found = natural_step(scores, metric, None, wanted)
    torch.testing.assert_close(
        flat(found.direction), dense(scores, metric, wanted), rtol=1e-9, atol=0
    )
    torch.testing.assert_close(found.changes, flat(scores) @ flat(found.direction))
    u = flat(scores)
    torch.testing.assert_close(found.gram, u * flat(metric) @ u.T)


def test_the_running_direction_regresses_on_what_the_one_before_leaves():
    scores, wanted = scores_of(6), random(6, seed=5)
    metric, before = (
        [torch.ones(s, dtype=F64) for s in SHAPES],
        [random(*s, seed=3) for s in SHAPES],
    )
    found = natural_step(scores, metric, before, wanted, 0.3)
    expected = dense(scores, metric, wanted, before, 0.3)
    torch.testing.assert_close(flat(found.direction), expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.changes, flat(scores) @ flat(found.direction))


def test_one_number_by_hand():
    """Two completions with scores 1 and -1 of one parameter: G/N + lambda = [[.51, -.5], [-.5, .51]].

    c = (2, -2) is along its eigenvector of 1.01, so x = c / 1.01 / 2 and w = 2 * 2 / 1.01 / 2.
    """
    scores, metric = [torch.tensor([[[1.0]], [[-1.0]]], dtype=F64)], [torch.ones(1, 1, dtype=F64)]
    wanted = torch.tensor([2.0, -2.0], dtype=F64)
    gram = gram_matrix(scores, metric)
    torch.testing.assert_close(damped(gram), torch.tensor([[0.51, -0.5], [-0.5, 0.51]], dtype=F64))
    torch.testing.assert_close(regress(gram, wanted), wanted / 2.02)
    found = natural_step(scores, metric, None, wanted)
    assert float(found.direction[0]) == pytest.approx(2 / 1.01)
    assert found.changes.tolist() == pytest.approx([2 / 1.01, -2 / 1.01])
    assert predicted_kl(found.changes) == pytest.approx(0.5 * (2 / 1.01) ** 2)


def test_scores_of_nothing_give_no_step():
    scores = [torch.zeros(4, *s, dtype=F64) for s in SHAPES]
    found = natural_step(scores, parameter_metric([s.mean(0) for s in scores]), None, random(4))
    assert not flat(found.direction).any()
    assert predicted_kl(found.changes) == 0


def test_the_step_does_not_depend_on_how_the_parameters_are_scaled():
    """LoRA's scale, alpha, divides the scores of A and of B: the policy that comes out is the same without damping."""
    scores, wanted = scores_of(4), random(4, seed=5)
    other = [scores[0] * 10, scores[1] / 10]

    def moved(u):
        found = natural_step(u, parameter_metric([s.square().mean(0) for s in u]), None, wanted)
        return found.changes

    torch.testing.assert_close(moved(other), moved(scores), rtol=0.1, atol=0.02)


def test_the_metric_is_adams_with_a_floor():
    """v = (0, 4): the floor is 0.01 x 2, so D is as (0.02^-1/2, 4.02^-1/2), and D_2 x 4 is 4."""
    (metric,) = parameter_metric([torch.tensor([[0.0, 4.0]], dtype=F64)])
    assert metric[0, 1] == pytest.approx(1.0)
    assert metric[0, 0] == pytest.approx((4.02 / 0.02) ** 0.5)


def test_kept_scores_are_each_completions_own_gradient(training):
    model, rollouts = training
    _, expected = separate_passes(model, rollouts, torch.eye(8, dtype=F64))
    gradients = RewardGradients(model, torch.ones(8), torch.ones(1, 8), 0, torch.device("cpu"))
    with gradients.recording():
        for rows in torch.arange(8).split(3):
            gradients.backward(log_likelihoods(model, rollouts, rows), rows)
    for kept, each in zip(gradients.scores, expected, strict=True):
        assert kept.shape == each.shape
        close(kept, each, terms(model, rollouts))
    assert one_pass(model, rollouts, torch.ones(8), torch.ones(1, 8)).scores == []


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_scores_of_a_16_bit_model_are_kept_in_16_bits_of_wide_range(tiny_policy, kind):
    from gdpo.policies.policy import trainable

    with trainable(tiny_policy, rank=4, alpha=8, seed=1) as model:
        model.to(kind)
        try:
            found = RewardGradients(model, torch.ones(2), torch.ones(1, 2), 0, torch.device("cpu"))
        finally:
            model.to(torch.float32)
    assert {s.dtype for s in found.scores} == {torch.bfloat16}


def test_half_as_exact_scores_give_nearly_the_same_changes():
    """bf16 has 8 bits: the changes of the policy move by about as much as their digits."""
    scores, wanted = scores_of(12), random(12, seed=5)
    metric = parameter_metric([s.square().mean(0) for s in scores])
    exact = natural_step(scores, metric, None, wanted).changes
    rounded = natural_step([s.bfloat16() for s in scores], metric, None, wanted).changes
    assert float((rounded - exact).norm() / exact.norm()) < 0.03


def test_it_remembers_squares_and_directions():
    parameters = [torch.nn.Parameter(torch.zeros(s, dtype=F64)) for s in SHAPES]
    state = NaturalGradient(parameters)
    first, second = scores_of(5), scores_of(5, seed=40)
    one = state.find(first, random(5, seed=5))
    squares = [s.square().mean(0) for s in first]
    torch.testing.assert_close(
        flat(one.direction), dense(first, parameter_metric(squares), random(5, seed=5))
    )
    two = state.find(second, random(5, seed=6))
    squares = [0.9 * v + 0.1 * s.square().mean(0) for v, s in zip(squares, second, strict=True)]
    metric = parameter_metric(squares)
    expected = dense(second, metric, random(5, seed=6), one.direction, 0.3)
    torch.testing.assert_close(flat(two.direction), expected)
    state.move(two.direction, 0.5)
    torch.testing.assert_close(flat([p.data for p in parameters]), 0.5 * expected)


def test_left_out_is_really_leaving_out():
    """Each prompt's advantages as the ridge regression on the other prompts' completions predicts them."""
    scores, advantages = scores_of(12), random(3, 12, seed=8)
    metric = [torch.ones(s, dtype=F64) for s in SHAPES]
    gram = gram_matrix(scores, metric)
    found = left_out(gram, advantages, 4)
    u = flat(scores)
    least = DAMPING * float(u.square().sum(1).mean()) * 12  # of a sum over completions
    for start in (0, 4, 8):
        inside = torch.zeros(12, dtype=torch.bool)
        inside[start : start + 4] = True
        others = u[~inside]
        fisher = others.T @ others + least * torch.eye(P, dtype=F64)
        ways = torch.linalg.solve(fisher, others.T @ advantages[:, ~inside].T)
        torch.testing.assert_close(found[:, inside], (u[inside] @ ways).T, rtol=1e-7, atol=1e-9)


def test_signal_is_told_from_noise():
    """A reward that the scores express holds on other prompts; noise with fewer parameters than rows does not."""
    scores = scores_of(64)
    gram = gram_matrix(scores, [torch.ones(s, dtype=F64) for s in SHAPES])
    expressible = flat(scores) @ random(P, seed=3)
    noise = random(64, seed=77)
    rows = torch.stack([expressible, noise, torch.zeros(64, dtype=F64)])
    signal, none, dead = signal_shares(gram, rows, 8).tolist()
    assert signal > 0.9
    assert none < 0.2
    assert dead != dead  # NaN: it tells no completion from another
    alone = signal_shares(gram, rows, 64)
    assert alone.isnan().all()  # one prompt: none is left to tell from


def test_changes_are_the_scores_along_the_direction():
    scores, direction = scores_of(5), [random(*s, seed=2) for s in SHAPES]
    torch.testing.assert_close(changes(scores, direction), flat(scores) @ flat(direction))
