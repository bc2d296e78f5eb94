"""Scores under a large vocabulary, taken block by block, are those of all logits at once."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from random_models import random_model
from rounding import bound, close

from gdpo.update import logprobs, wide_head
from gdpo.update.logprobs import Head, score_tokens
from gdpo.update.wide_head import can_scan, scan

V, D, M = 1000, 24, 60


def make_head(temperature=1.0, *, bias=False, cap=None, scale=None, dtype=torch.float32):
    """A head with weights of 16 binary digits and less, so that other types hold the same ones."""
    torch.manual_seed(0)
    project = torch.nn.Linear(D, V, bias=bias).to(torch.bfloat16).to(dtype).requires_grad_(False)
    config = SimpleNamespace(final_logit_softcapping=cap, logit_scale=scale)
    inner = SimpleNamespace(
        get_output_embeddings=lambda: project,
        config=SimpleNamespace(get_text_config=lambda: config),
    )
    return Head(inner, temperature)


def states(head, factor=3.0):
    """Hidden states, and targets of which a half is the likeliest token."""
    generator = torch.Generator().manual_seed(1)
    hidden = (factor * torch.randn(M, D, generator=generator)).to(head.project.weight.dtype)
    targets = torch.randint(V, (M,), generator=generator)
    targets[: M // 2] = head.project(hidden[: M // 2]).argmax(1)
    return hidden, targets


def exact(hidden, targets, temperature=1.0, **options):
    """Scores and slopes in float64, by autograd."""
    head = make_head(temperature, dtype=torch.float64, **options)
    leaf = hidden.detach().double().requires_grad_()
    found, entropy = head(leaf, targets)
    (slopes,) = torch.autograd.grad(found.sum(), leaf)
    return found.detach(), entropy, slopes


KINDS = {
    "plain": {},
    "with a bias": {"bias": True},
    "hot": {"temperature": 2.5},
    "capped": {"cap": 3.0, "temperature": 0.7},
    "scaled": {"scale": 0.25, "bias": True},
}


@pytest.mark.parametrize("elements", [M, 7 * M, 2**21])  # a token, seven and all of them at a time
@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_slopes_are_those_of_all_logits_at_once(kind, elements, monkeypatch):
    monkeypatch.setattr(wide_head, "_BLOCK_ELEMENTS", elements)
    head = make_head(**KINDS[kind])
    hidden, targets = states(head)
    found = scan(head, hidden, targets, sloped=True)
    logprobs_, entropy, slopes = exact(hidden, targets, **KINDS[kind])
    rounded = bound(V + D, float(logprobs_.abs().max()))
    torch.testing.assert_close(found.logprobs.double(), logprobs_, rtol=0, atol=rounded)
    allowed = (1 + math.log(V)) * rounded  # as in `same_scores`
    torch.testing.assert_close(found.entropy.double(), entropy, rtol=0, atol=allowed)
    close(found.slopes.double().float(), slopes.float(), V + D)


def test_tokens_are_taken_in_parts_where_there_are_many(monkeypatch):
    head = make_head()
    hidden, targets = states(head)
    whole = scan(head, hidden, targets, sloped=True)
    monkeypatch.setattr(wide_head, "_MOST_TOKENS", 7)
    parts = scan(head, hidden, targets, sloped=True)
    for one, other in zip(whole, parts, strict=True):
        close(one, other, V + D)
    assert scan(head, hidden, targets, sloped=False).slopes is None


def test_two_tokens_worked_by_hand():
    """Logits 0 and log 3: probabilities 1/4 and 3/4; d log p_1 / dh = (1 - 3/4) (w_1 - w_0)."""
    project = torch.nn.Linear(1, 2, bias=False).requires_grad_(False)
    project.weight.copy_(torch.tensor([[0.0], [1.0]]))
    head = make_head()
    head.project, head.vocabulary = project, 2
    found = scan(head, torch.tensor([[math.log(3)]]), torch.tensor([1]), sloped=True)
    torch.testing.assert_close(found.logprobs, torch.tensor([math.log(3 / 4)]))
    wanted = 3 / 4 * math.log(4 / 3) + 1 / 4 * math.log(4)
    torch.testing.assert_close(found.entropy, torch.tensor([wanted]))
    torch.testing.assert_close(found.slopes, torch.tensor([[0.25]]))


def test_the_slope_of_a_token_that_is_almost_certain_keeps_its_digits():
    """1 - p is 2e-7 and less here: a sum that holds p, which is 1, would round most of it away."""
    head = make_head()
    hidden, targets = states(head, factor=60.0)
    targets = head.project(hidden).argmax(1)
    _, _, slopes = exact(hidden, targets)
    logprobs_ = exact(hidden, targets)[0]
    sure = (logprobs_ > -2e-7) & (logprobs_ < -1e-12)
    assert sure.sum() > 5
    found = scan(head, hidden, targets, sloped=True).slopes[sure].double()
    # Logits of up to 100 carry errors of that many roundings, which their exponentials carry on.
    relative = bound(V + D, float(head.project(hidden).abs().max()))
    error = (found - slopes[sure]).norm(dim=1) / slopes[sure].norm(dim=1)
    assert float(error.max()) < relative


def test_half_precision_is_as_near_as_all_logits_at_once():
    head = make_head(dtype=torch.bfloat16)
    hidden, targets = states(head)
    logprobs_, _, slopes = exact(hidden.double(), targets)
    found = scan(head, hidden, targets, sloped=True)
    leaf = hidden.clone().requires_grad_()
    plain, _ = head(leaf, targets)
    (plain_slopes,) = torch.autograd.grad(plain.sum(), leaf)
    for ours, theirs, wanted in (
        (found.logprobs, plain.detach(), logprobs_),
        (found.slopes, plain_slopes, slopes),
    ):
        errors = [float((one.double() - wanted).abs().mean()) for one in (ours, theirs)]
        assert errors[0] < 1.1 * errors[1]


@pytest.mark.parametrize("name", ["llama", "gemma2", "granite"])
def test_an_update_takes_this_way_where_the_vocabulary_is_large_and_gives_the_same(
    name, monkeypatch
):
    from conftest import make_tokenizer
    from random_models import PROMPTS

    from gdpo.rollouts import sample

    model = random_model(name)
    rollouts = sample(model, make_tokenizer(), PROMPTS, group_size=3, max_new_tokens=8, seed=0)
    rows = torch.arange(9)
    hidden = model.get_decoder().layers[0].self_attn.o_proj.weight.requires_grad_()

    def update():
        scores = score_tokens(model, rollouts, rows, 0.8)
        (gradient,) = torch.autograd.grad(scores.logprobs.sum(), hidden)
        return scores.logprobs.detach(), scores.entropy, gradient

    wanted, calls = update(), []
    monkeypatch.setattr(logprobs, "_CHUNK_ELEMENTS", model.config.vocab_size)  # a token at a time
    spied = lambda *args, **options: (calls.append(1), scan(*args, **options))[1]
    monkeypatch.setattr(logprobs, "scan", spied)
    for found, one in zip(update(), wanted, strict=True):
        close(found, one, 2 * int(rollouts.lengths.sum()) * (V + D))
    assert calls
    with torch.no_grad():
        found = score_tokens(model, rollouts, rows, 0.8)
    close(found.logprobs, wanted[0], V + D)


def test_the_way_back_in_half_precision_ends_in_the_type_of_the_states(monkeypatch):
    head = make_head(dtype=torch.bfloat16)
    hidden, targets = states(head)
    (_, _, slopes), shares = exact(hidden, targets), torch.linspace(-1, 1, M)
    monkeypatch.setattr(logprobs, "_CHUNK_ELEMENTS", V)
    leaf = hidden.clone().requires_grad_()
    found, _ = logprobs._in_chunks(head, leaf, targets)
    (gradient,) = torch.autograd.grad((shares * found).sum(), leaf)
    assert gradient.dtype == torch.bfloat16
    wanted = shares[:, None] * slopes
    assert float((gradient - wanted).abs().max() / wanted.abs().max()) < 0.02  # 8 binary digits


def test_a_head_that_is_trained_or_no_plain_layer_is_left_alone():
    head = make_head()
    assert can_scan(head)
    head.is_trained = True
    assert not can_scan(head)
    head = make_head()
    head.project = torch.nn.Sequential(head.project)
    assert not can_scan(head)
