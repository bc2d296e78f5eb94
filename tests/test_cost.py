"""The cost benchmark compares like with like: all its ways of making an update make the same one."""

from __future__ import annotations

import pytest
import torch

from benchmarks import _updates, cost
from benchmarks._updates import UPDATES, make_batch, make_optimizer
from gdpo.policies.policy import trainable
from gdpo.prompts import make_prompt
from gdpo.rollouts import sample
from gdpo.settings import TrainSettings

COUNT, GROUP = 5, 4


@pytest.fixture
def prepared(tiny_policy):
    """A model with an adapter that is not zero, and rollouts."""
    with trainable(tiny_policy, rank=4, alpha=8, seed=1) as model:
        generator = torch.Generator().manual_seed(2)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        prompts = [make_prompt("the printer"), make_prompt("restart the router please")]
        tokenizer = tiny_policy.base.tokenizer
        yield model, sample(model, tokenizer, prompts, group_size=GROUP, max_new_tokens=8, seed=3)


def test_one_pass_steps_along_the_same_gradient_as_k_passes(prepared, monkeypatch):
    model, rollouts = prepared
    steps = {}
    for method in ("retained", "rerun", "one_pass"):
        batch = make_batch(
            model, make_optimizer(model), rollouts, COUNT, GROUP, TrainSettings(micro_batch=3)
        )
        monkeypatch.setattr(
            _updates, "step", lambda _, found, name=method: steps.__setitem__(name, found)
        )
        UPDATES[method](batch)
    for method in ("rerun", "one_pass"):
        for ours, theirs in zip(steps[method], steps["retained"], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("method", list(UPDATES))
def test_an_update_is_whole_and_leaves_the_model_as_it_is(prepared, method):
    model, rollouts = prepared
    optimizer = make_optimizer(model)
    batch = make_batch(model, optimizer, rollouts, COUNT, GROUP, TrainSettings(micro_batch=3))
    before = [p.detach().clone() for p in batch.parameters]
    UPDATES[method](batch)
    assert all(torch.equal(p, b) for p, b in zip(batch.parameters, before, strict=True))
    moments = [optimizer.state[p]["exp_avg"] for p in batch.parameters]
    assert all(moment.abs().sum() > 0 for moment in moments)


def test_without_trl_the_result_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(cost.importlib.util, "find_spec", lambda name: None)
    assert 'pip install "trl' in cost.side_by_side("cpu", 3)["not_measured"]


def test_a_measurement_that_fails_names_its_reason():
    with pytest.raises(cost.ChildError, match="precision"):
        cost.child("_cost_child", "memory", "fp7", "cpu", "1", "1")
