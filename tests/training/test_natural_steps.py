"""Trainings by natural steps: how far they go, what they record, and that nothing beside the mathematics matters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_training import PROMPTS, SETTINGS, LetterShare, assert_same_run, objective

from gdpo.objective.objective import combine_rewards
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import trainable
from gdpo.rewards.reward import Reward
from gdpo.rollouts import sample
from gdpo.runs.history import read_history
from gdpo.training.gradient import Parts
from gdpo.training.stepping import NaturalSteps, likelihood_scores
from gdpo.training.trainer import train
from gdpo.update.natural import predicted_kl
from gdpo.update.passes import differentiate, divergence

NATURAL = replace(SETTINGS, optimizer="natural", warmup_steps=0)


def adapter_of(policy, folder, settings=NATURAL, **changes):
    return train(policy, PROMPTS, objective(), settings, folder, **changes).policy.adapter.state


def test_it_is_what_a_training_takes_by_itself():
    assert type(SETTINGS)().optimizer == "natural"


def test_a_step_goes_no_further_than_it_may_and_says_how_far(tiny_policy, tmp_path):
    settings = replace(NATURAL, step_size=0.05)
    result = train(tiny_policy, PROMPTS, objective(), settings, tmp_path / "run")
    records = read_history(result.folder)
    assert len(records) == settings.steps
    for record in records:
        assert 0 < record["step_kl"] <= 0.05 * (1 + 1e-6)
        assert 0 <= record["step_kl_measured"] <= 3 * 0.05
        assert record["step_shortened"] in (True, False)
        assert "learning_rate" not in record
        assert record["grad_norm"] > 0
        assert set(record["signals"]) == {"vowels", "consonants"}
        assert all(s is None or 0 <= s <= 1 for s in record["signals"].values())


def test_the_first_steps_are_shorter(tiny_policy, tmp_path):
    """Divergence grows with the square of the length: a quarter of it over four steps is a sixteenth."""
    settings = replace(NATURAL, step_size=1e-3, warmup_steps=4)
    train(tiny_policy, PROMPTS, objective(), settings, tmp_path / "run")
    found = [record["step_kl"] for record in read_history(tmp_path / "run")]
    wanted = [1e-3 * min(1, step / 4) ** 2 for step in range(1, 7)]
    assert found == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("size", [1e-4, 1e-3, 0.01])
def test_the_predicted_divergence_is_the_measured_one(tiny_policy, size):
    """Within 20 % for small steps, on all completions of a batch."""
    settings = replace(NATURAL, group_size=32, max_new_tokens=8)
    with trainable(tiny_policy, rank=4, alpha=8, seed=1) as model:
        generator = torch.Generator().manual_seed(2)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_B" in name:
                parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        rollouts = sample(
            model, tiny_policy.base.tokenizer, PROMPTS[:2], group_size=32, max_new_tokens=8, seed=3
        )
        wanted = torch.randn(64, generator=generator, dtype=torch.float64)
        found = differentiate(
            *(model, rollouts, wanted, wanted[None], settings, lambda: None), keep=model.device
        )
        stepper = NaturalSteps(model, objective(), settings, lambda: None)
        way = stepper.optimizer.find(likelihood_scores(found.gradients, rollouts), wanted)
        share = (size / predicted_kl(way.changes)) ** 0.5
        stepper.optimizer.move(way.direction, share)
        measured = divergence(model, rollouts, found.logprobs, settings, 1)
        assert measured == pytest.approx(size, rel=0.2)


def test_a_step_that_goes_much_too_far_is_taken_back_in_part(tiny_policy, tmp_path):
    """Where the second order says less than is true: here the prediction is scaled down a hundred times."""

    class Blind(NaturalSteps):
        def _length(self, changes):
            return super()._length(changes / 10)

    settings = replace(NATURAL, step_size=0.05, steps=3)
    parts = Parts(stepper=Blind)
    train(tiny_policy, PROMPTS, objective(), settings, tmp_path / "run", parts=parts)
    records = read_history(tmp_path / "run")
    assert any(record["step_shortened"] for record in records)
    assert all(record["step_kl_measured"] <= 3 * 0.05 for record in records)


def test_it_ends_by_itself_where_nothing_is_left_to_do(tiny_policy, tmp_path):
    """Every reward is beyond its target: no step is asked for."""
    easy = combine_rewards([Reward("vowels", LetterShare("aeiou"), target=0.0001)])
    settings = replace(NATURAL, steps=3, group_size=16)
    train(tiny_policy, PROMPTS, easy, settings, tmp_path / "run")
    records = read_history(tmp_path / "run")
    assert all(record["deficits"]["vowels"] == 0 for record in records)
    assert [record["step_kl"] for record in records] == [0, 0, 0]


@pytest.mark.parametrize("precision", ["fp32", "int8", "nf4"])
@pytest.mark.parametrize(
    "change", [{"micro_batch": 1}, {"micro_batch": 3}, {"gradient_checkpointing": True}]
)
def test_how_completions_pass_changes_nothing(tiny_folder, tmp_path, precision, change):
    if precision != "fp32":
        pytest.importorskip("bitsandbytes")
    policy = load_policy(tiny_folder, precision=precision, device="cpu")
    settings = replace(NATURAL, steps=1, step_size=0.01)
    plain = adapter_of(policy, tmp_path / "plain", settings)
    other = adapter_of(policy, tmp_path / "other", replace(settings, **change))
    for name, tensor in plain.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_a_quantised_base_takes_natural_steps(tiny_folder, tmp_path, precision):
    pytest.importorskip("bitsandbytes")
    policy = load_policy(tiny_folder, precision=precision, device="cpu")
    state = adapter_of(policy, tmp_path / "run", replace(NATURAL, steps=2))
    assert any(tensor.any() for name, tensor in state.items() if "lora_B" in name)
    for record in read_history(tmp_path / "run"):
        assert record["step_kl_measured"] <= 3 * NATURAL.step_size


def test_it_resumes_bit_for_bit(tiny_policy, tmp_path):
    short = replace(NATURAL, steps=3)
    for settings in (short, NATURAL):
        train(tiny_policy, PROMPTS, objective(), settings, tmp_path / "halves")
    train(tiny_policy, PROMPTS, objective(), NATURAL, tmp_path / "whole")
    assert_same_run(tmp_path / "halves", tmp_path / "whole")


@pytest.mark.parametrize("method", ["group_dpo", "grpo", "saturation_aware"])
def test_other_methods_take_natural_steps_of_a_size_that_matters(tiny_policy, tmp_path, method):
    settings = replace(NATURAL, steps=2, step_size=0.05)
    train(tiny_policy, PROMPTS, objective(method), settings, tmp_path / "run")
    assert [r["step_kl"] for r in read_history(tmp_path / "run")] == pytest.approx([0.05] * 2)


def test_the_base_pulls_back(tiny_policy, tmp_path):
    """With a strong pull the policy ends nearer to its base than without."""

    def distance(coefficient):
        settings = replace(NATURAL, steps=12, kl_coeff=coefficient, group_size=8)
        train(tiny_policy, PROMPTS, objective(), settings, tmp_path / f"{coefficient}")
        return read_history(tmp_path / f"{coefficient}")[-1]["kl"]

    assert distance(2.0) < 0.5 * distance(0.0)


def test_what_another_optimiser_does_not_look_at_tells_no_runs_apart(tiny_policy):
    from gdpo.runs.run_file import identify

    def identity(**changes):
        return identify(tiny_policy, PROMPTS, (), objective(), replace(SETTINGS, **changes))

    assert identity(optimizer="sgd") == identity(optimizer="sgd", step_size=1.0)
    assert "step_size" not in identity(optimizer="adamw")["settings"]
    natural = identity(optimizer="natural")
    assert natural != identity(optimizer="natural", step_size=1.0)
    assert natural == identity(optimizer="natural", learning_rate=0.5, max_grad_norm=9.0)
    assert identity(optimizer="sgd") != identity(optimizer="sgd", learning_rate=0.5)


def test_what_sampling_rounds_otherwise_is_no_part_of_the_measured_divergence(
    tiny_policy, tmp_path, monkeypatch
):
    """As in 16 bits, where every token may be off by some hundredths of a nat: here all of them by 0.15."""

    def coarse(*arguments, **options):
        rollouts = sample(*arguments, **options)
        return replace(rollouts, logprobs=rollouts.logprobs - 0.15 * rollouts.completion_mask)

    monkeypatch.setattr("gdpo.training.draws.sample", coarse)
    settings = replace(NATURAL, steps=2, step_size=1e-3)
    train(tiny_policy, PROMPTS, objective(), settings, tmp_path / "run")
    for record in read_history(tmp_path / "run"):
        assert record["sampler_gap"] == pytest.approx(0.15, abs=0.01)
        assert record["step_kl_measured"] < 0.01  # of 8 tokens it would be 0.5
        assert not record["step_shortened"]
