"""A training from its first step to its adapter; one step is in `loop`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..allocator import returning_freed_memory
from ..errors import TrainingError
from ..objective.objective import Objective
from ..policies.adapter import read_adapter
from ..policies.policy import Policy, trainable
from ..policies.targets import left_as_it_is
from ..progress import Progress
from ..prompts import Prompt
from ..rewards.coverage import check_coverage
from ..runs.folder import opened_run
from ..runs.run_file import describe_run, identify
from ..settings import TrainSettings
from .evaluations import Evaluations
from .findings import Findings
from .gradient import Parts
from .loop import Loop
from .schedule import draw


@dataclass(frozen=True)
class TrainResult:
    """The trained policy and the folder of its run."""

    policy: Policy
    folder: Path


def train(
    policy: Policy,
    prompts: Sequence[Prompt],
    objective: Objective,
    settings: TrainSettings,
    folder: Path,
    *,
    heldout: Sequence[Prompt] = (),
    progress: Progress | None = None,
    workflow: dict[str, Any] | None = None,
    parts: Parts | None = None,
) -> TrainResult:
    """Train a LoRA adapter on several rewards, or go on with the run that is in `folder`.

    The input policy is not changed. If anything raises, an interrupt of the host too, the finished steps
    are saved as a checkpoint and the exception passes.

    Args:
        policy: Start of the training; its own adapter, if any, is copied.
        prompts: Drawn in a seeded order, all of them before any comes again.
        objective: The rewards and the method.
        settings: See `TrainSettings`.
        folder: The run's folder, made if absent.
        heldout: Prompts for evaluation only.
        progress: Receives phases and records, and may stop the training by raising.
        workflow: Kept in `run.json`.
        parts: Exchangeable parts of a step; None: the usual ones.

    Raises:
        TrainingError: The training cannot start or go on.
        RewardError: A reward can score none of the prompts, or not a row of them.
    """
    if not prompts:
        raise TrainingError("There are no prompts to train on; load at least one.")
    progress = Findings(progress or Progress())
    _check_rewards(objective, prompts, heldout, progress)
    identity = identify(policy, prompts, heldout, objective, settings)
    seed, rank, alpha = settings.rng_seed, settings.lora_rank, settings.lora_alpha
    with (
        opened_run(folder, describe_run(identity, policy.base.source, workflow)) as run,
        returning_freed_memory(policy.base.device, policy.base.model.num_parameters()),
        torch.inference_mode(False),
        trainable(policy, rank=rank, alpha=alpha, seed=seed) as model,
    ):
        _tell_left_out(model, progress)
        evaluations = Evaluations(heldout, objective, settings)
        loop = Loop(
            model, policy.base, objective, settings, run, progress, parts or Parts(), evaluations
        )
        progress.go_on(loop.resume())
        _check_steps(loop.step, settings.steps, folder.name)
        try:
            loop.evaluate()
            while loop.step < settings.steps and not loop.converged:
                loop.advance(draw(prompts, settings.prompts_per_step, loop.step + 1, seed))
                loop.evaluate()
        finally:
            loop.save()
            progress.write(folder)
        adapter = read_adapter(model)
        run.finish(adapter)
    return TrainResult(Policy(policy.base, adapter, folder), folder)


def _check_steps(made: int, wanted: int, run: str) -> None:
    """Refuse to go on with a run of more steps than are wanted."""
    if made > wanted:
        raise TrainingError(
            f"The run {run!r} is already trained for {made} steps and `steps` is {wanted}; raise it, or choose "
            "another `run_name`."
        )


def _tell_left_out(model: Any, progress: Progress) -> None:
    """Tell which matrices the adapter leaves as they are, if any."""
    left = left_as_it_is(model)
    if left:
        progress.notice(left)


def _check_rewards(
    objective: Objective, prompts: Sequence[Prompt], heldout: Sequence[Prompt], progress: Progress
) -> None:
    """Refuse rewards that could score no prompt, and tell of those that can score some only."""
    for line in check_coverage(objective.rewards, prompts, heldout, poll=progress.poll):
        progress.notice(line)
