"""A training from its first step to its adapter; one step is in `loop`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..allocator import returning_freed_memory
from ..errors import TrainingError
from ..objective.objective import Objective
from ..policies.adapter import Adapter
from ..policies.policy import Policy
from ..progress import Progress
from ..prompts import Prompt
from ..runs.folder import Run, check_before, opened_run
from ..runs.past import order_of
from ..runs.rows import newest_step
from ..runs.run_file import describe_run, identify
from ..settings import TrainSettings
from .evaluations import Evaluations
from .findings import Findings
from .gradient import Parts
from .loop import Loop
from .preflight import Check, Planned, preflight
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
    checks: Sequence[Check] = (),
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
        checks: What the host asks besides before the first step; see `preflight.Check`.

    Raises:
        TrainingError: The training cannot start or go on.
        GDPOError: Something else stands in its way; a `PreflightError` has a line for each of several things.
    """
    progress = Findings(progress or Progress())
    identity = identify(policy, prompts, heldout, objective, settings)
    content = describe_run(identity, policy.base.source, workflow)
    check_before(folder, content, settings.steps)
    _check_steps(newest_step(folder), settings.steps, folder.name)
    planned = Planned(policy, prompts, heldout, objective, settings, folder, checks)
    with ExitStack() as held:
        held.enter_context(
            returning_freed_memory(policy.base.device, policy.base.model.num_parameters())
        )
        held.enter_context(torch.inference_mode(False))
        model = preflight(planned, held, progress)
        run = held.enter_context(opened_run(folder, content, settings.steps))
        adapter = _make_steps(planned, model, run, progress, parts or Parts())
        run.finish(adapter)
    return TrainResult(Policy(policy.base, adapter, folder), folder)


def _make_steps(
    planned: Planned, model: Any, run: Run, progress: Findings, parts: Parts
) -> Adapter:
    """Make the steps that are left, save them whatever happens, and return the adapter."""
    settings, prompts, folder = planned.settings, planned.prompts, run.folder
    seed, count = settings.rng_seed, settings.prompts_per_step
    if run.told:
        progress.notice(run.told)
    order = order_of(folder, run.content, seed, len(prompts))
    evaluations = Evaluations(planned.heldout, planned.objective, settings)
    base, objective = planned.policy.base, planned.objective
    loop = Loop(model, base, objective, settings, run, progress, parts, evaluations)
    progress.go_on(loop.resume())
    _check_steps(loop.step, settings.steps, folder.name)
    try:
        loop.evaluate()
        while loop.step < settings.steps and not loop.converged:
            loop.advance(draw(prompts, count, loop.step + 1, seed, order))
            loop.evaluate()
    finally:
        loop.save()
        progress.write(folder)
    return loop.adapter()


def _check_steps(made: int, wanted: int, run: str) -> None:
    """Refuse to go on with a run of more steps than are wanted."""
    if made > wanted:
        raise TrainingError(
            f"The run {run!r} is already trained for {made} steps and `steps` is {wanted}; raise it, or choose "
            "another `run_name`."
        )
