"""The cost benchmark compares like with like: all its ways of making an update make the same one."""

from __future__ import annotations

import pytest
import torch
from rounding import close, path_length

from benchmarks.common import natural_update
from benchmarks.common.batches import make_batch, make_optimizer
from benchmarks.common.updates import WAYS, update
from benchmarks.cost import __main__ as cost, measure
from gdpo.errors import PolicyError
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


def batch_of(model, rollouts, optimizer=None):
    settings = TrainSettings(micro_batch=3)
    return make_batch(model, optimizer or make_optimizer(model), rollouts, COUNT, GROUP, settings)


def test_one_pass_steps_along_the_same_gradient_as_k_passes(prepared):
    # Each way gets a director that has seen the same, since deciding changes it.
    model, rollouts = prepared
    ways = ("retained", "rerun", "one_pass")
    found = {way: WAYS[way](batch_of(model, rollouts)) for way in ways}
    terms = 2 * int(rollouts.lengths.sum()) * path_length(model)
    assert max(gradient.abs().max() for gradient in found["retained"]) > 1e-3
    for way in ("rerun", "one_pass"):
        for ours, theirs in zip(found[way], found["retained"], strict=True):
            close(ours, theirs, terms)


@pytest.mark.parametrize("way", list(WAYS))
def test_an_update_is_whole_and_leaves_the_model_as_it_is(prepared, way):
    model, rollouts = prepared
    optimizer = make_optimizer(model)
    batch = batch_of(model, rollouts, optimizer)
    before = [p.detach().clone() for p in batch.parameters]
    update(way, batch)
    assert all(torch.equal(p, b) for p, b in zip(batch.parameters, before, strict=True))
    moments = [optimizer.state[p]["exp_avg"] for p in batch.parameters]
    assert all(moment.abs().sum() > 0 for moment in moments)


def test_a_natural_update_is_whole_and_leaves_the_model_as_it_is(prepared):
    model, rollouts = prepared
    optimizer, settings = make_optimizer(model), TrainSettings(micro_batch=3)
    about = (model, optimizer, rollouts)
    batch, more = (make_batch(*about, count, GROUP, settings) for count in (COUNT, COUNT + 1))
    before = [p.detach().clone() for p in batch.parameters]
    update("natural", batch)
    update("natural", more)
    assert all(torch.equal(p, b) for p, b in zip(batch.parameters, before, strict=True))
    state = natural_update._optimizers[model].state
    for parameter in batch.parameters:
        assert set(state[parameter]) == {"squares", "direction", "average"}
        assert state[parameter]["squares"].sum() > 0
        assert state[parameter]["direction"].abs().sum() > 0


def test_without_trl_the_result_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(cost.importlib.util, "find_spec", lambda name: None)
    assert 'pip install "trl' in cost.side_by_side("cpu", 3)["not_measured"]


def test_ratios_are_taken_round_by_round():
    # Updates take 2, 3 and 10 times the plain one; sampling, 1 s of each step, makes that 1.5, 2 and 5.5.
    seconds = [[1.0, 2.0, 1.0], [1.0, 3.0, 1.0], [1.0, 10.0, 1.0]]
    row = cost.ratios(seconds, [120.0, 300.0], [100.0, 200.0], "cuda")
    assert (row["update_time_ratio"], row["update_time_range"]) == (3.0, [2.0, 10.0])
    assert row["step_time_ratio"] == 2.0
    assert (row["memory_ratio"], row["reserved_ratio"]) == (1.2, 1.5)
    assert "reserved_ratio" not in cost.ratios(seconds, [1.0, 1.0], [1.0, 1.0], "cpu")


def test_a_measurement_that_fails_names_its_reason():
    with pytest.raises(PolicyError, match="precision"):
        measure.memory("fp7", "cpu", [1], [1])


def test_new_rows_take_the_place_of_those_that_they_renew():
    rows = [{"k": 1, "precision": p, "method": "plain", "memory_mb": 1} for p in ("fp32", "nf4")]
    new = [{**rows[0], "memory_mb": 2}, {**rows[0], "method": "natural"}]
    found = cost.renewed({"rows": rows, "trl": {}}, new)
    assert found == {"rows": [rows[1], *new], "trl": {}}
