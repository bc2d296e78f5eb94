"""What a training does when memory runs out."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from memory_estimates import PROMPTS, SETTINGS, objective

from gdpo.errors import TrainingError
from gdpo.memory.retreat import Limits, Retreat
from gdpo.out_of_memory import is_out_of_memory
from gdpo.policies.loading import load_policy
from gdpo.runs.history import read_history
from gdpo.settings import TrainSettings
from gdpo.training.trainer import train


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            ),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (KeyError("memory"), False),
    ],
)
def test_failed_allocations_are_told_from_other_errors(error, is_memory):
    assert is_out_of_memory(error) == is_memory


def test_a_real_failed_allocation_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**56)
    assert is_out_of_memory(caught.value)


def test_other_errors_pass_unchanged():
    def broken(_settings: TrainSettings) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        Retreat(SETTINGS, "cpu").run(broken, lambda _settings: "")


def limited(policy, most: int):
    """A hook that makes the update of more than `most` completions at a time run out of memory, on the way back."""

    def fail(_gradient: torch.Tensor) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    def watch(_module, _args, output):
        if output.requires_grad and len(output) > most:
            output.register_hook(fail)

    return policy.base.model.get_input_embeddings(), policy.base.model.model.norm, watch


def run(folder: Path, model: Path, most: int | None, settings: TrainSettings = SETTINGS):
    policy = load_policy(model, precision="fp32", device="cpu")
    if most is not None:
        _, norm, watch = limited(policy, most)
        norm.register_forward_hook(watch)
    return train(policy, PROMPTS, objective(), settings, folder)


def test_a_step_that_runs_out_of_memory_is_repeated_with_half_the_micro_batch(
    tiny_folder, tmp_path, caplog
):
    caplog.set_level(logging.WARNING)
    plain = run(tmp_path / "plain", tiny_folder, None, replace(SETTINGS, micro_batch=4))
    saved = run(tmp_path / "saved", tiny_folder, 4)
    assert [
        r.getMessage() for r in caplog.records if "micro_batch is 4 instead of 8" in r.getMessage()
    ] != []
    assert sum("Memory ran out" in record.getMessage() for record in caplog.records) == 1
    for name, tensor in plain.policy.adapter.state.items():
        assert torch.equal(saved.policy.adapter.state[name], tensor)


def test_the_second_time_ends_with_the_estimate_and_the_run_is_kept(tiny_folder, tmp_path):
    folder = tmp_path / "run"
    once = replace(SETTINGS, steps=1)
    run(folder, tiny_folder, None, once)
    with pytest.raises(TrainingError) as caught:
        run(folder, tiny_folder, 3)
    message = str(caught.value)
    assert "micro_batch 4" in message
    assert "Tried to allocate 9.00 GiB" in message
    assert "of memory are needed" in message
    assert "\n" not in message
    assert len(read_history(folder)) == 1
    finished = run(folder, tiny_folder, None)
    assert len(read_history(folder)) == 2
    assert finished.policy.adapter is not None


def refusing(seen: list):
    """Passes for which there is never room."""

    def fail(limits: Limits) -> None:
        seen.append((limits.spills, limits.settings.micro_batch))
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    return fail


@pytest.mark.parametrize(
    ("optimizer", "device", "tried"),
    [
        ("natural", "cuda", [(False, 8), (True, 8), (True, 4)]),
        ("natural", "cpu", [(False, 8), (False, 4)]),
        ("adamw", "cuda", [(False, 8), (False, 4)]),
    ],
)
def test_scores_leave_a_card_before_micro_batches_are_halved(optimizer, device, tried):
    seen: list[tuple[bool, int]] = []
    retreat = Retreat(replace(SETTINGS, optimizer=optimizer), device)
    with pytest.raises(TrainingError, match="micro_batch 4"):
        retreat.run(refusing(seen), lambda _settings: "")
    assert seen == tried
    with pytest.raises(TrainingError):  # nothing is left to try
        retreat.run(refusing(seen), lambda _settings: "")
    assert seen[len(tried) :] == tried[-1:]
