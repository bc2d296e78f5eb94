"""Asks before the first step everything that is known to end a training later, and tells all that it finds at once.

Every prompt is rendered and measured against the model's context, every reward is asked about every row, the adapter,
the optimiser and the method are tried, and the disk is looked at. What stands in the way is collected; one finding is
raised as what it is, several as one error with a line for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import GDPOError, TrainingError, joined
from ..objective.objective import Objective
from ..policies.policy import Policy, trainable
from ..policies.targets import left_as_it_is
from ..progress import Progress
from ..prompts import Prompt
from ..rewards.coverage import check_coverage
from ..settings import TrainSettings
from .disk_space import check_space
from .feasibility import check_adapter, check_method, check_optimizer
from .fitting import PromptTokens, measure_prompts
from .rehearsal import rehearse

# What a host asks besides, given the tokens of the prompts that fit; it raises a `GDPOError` to refuse.
Check = Callable[[PromptTokens], None]


@dataclass(frozen=True)
class Planned:
    """A training that is to begin or to go on.

    Attributes:
        policy: Start of the training.
        prompts: Prompts to train on.
        heldout: Prompts to evaluate on.
        objective: The rewards and the method.
        settings: Settings of the training.
        folder: The run's folder, which need not be there.
        checks: What the host asks besides.
    """

    policy: Policy
    prompts: Sequence[Prompt]
    heldout: Sequence[Prompt]
    objective: Objective
    settings: TrainSettings
    folder: Path
    checks: Sequence[Check] = ()


class _Answers:
    """Keeps what refuses a training, so that the questions after it are asked all the same."""

    def __init__(self) -> None:
        self._refusals: list[GDPOError] = []

    def ask(self, question: Callable[[], Any]) -> Any:
        """Return the answer; None where it is a refusal."""
        try:
            return question()
        except GDPOError as error:
            self._refusals.append(error)
            return None

    def add(self, refusals: Sequence[GDPOError]) -> None:
        """Keep refusals."""
        self._refusals += refusals

    def finish(self) -> None:
        """Refuse the training if any question did."""
        if self._refusals:
            raise joined(self._refusals)


def preflight(planned: Planned, held: ExitStack, progress: Progress) -> Any:
    """Return the model with its trainable adapter on it, once nothing stands in the way of its training.

    Args:
        planned: The training.
        held: Keeps the adapter on the model.
        progress: Receives the phase "checking" and the notices, and may stop the work by raising.

    Raises:
        GDPOError: Something stands in the way; a `PreflightError` where several things do.
    """
    policy, settings, objective = planned.policy, planned.settings, planned.objective
    answers = _Answers()
    tokens = _ask_about_rows(planned, answers, progress)
    answers.ask(partial(check_method, objective, settings))
    answers.ask(partial(check_optimizer, settings.optimizer, policy.base.device))
    rank, alpha, seed = settings.lora_rank, settings.lora_alpha, settings.rng_seed
    adapted = trainable(policy, rank=rank, alpha=alpha, seed=seed)
    model = answers.ask(partial(held.enter_context, adapted))
    if model is not None:
        answers.ask(partial(check_adapter, model, fresh=policy.adapter is None))
        answers.ask(
            partial(check_space, planned.folder, model, planned.prompts, objective, settings)
        )
    for check in planned.checks:
        progress.poll()
        answers.ask(partial(check, tokens))
    answers.finish()
    progress.phase("trying two tokens", 0, 0)
    rehearse(model, policy.base, planned.prompts, settings, progress.poll)
    _tell_left_out(model, progress)
    return model


def _ask_about_rows(planned: Planned, answers: _Answers, progress: Progress) -> PromptTokens:
    """Ask the rewards and the model about every row, and return the tokens of the prompts that fit."""
    rows, new_tokens = (planned.prompts, planned.heldout), planned.settings.max_new_tokens
    if not planned.prompts:
        answers.ask(_refuse_no_prompts)
    progress.phase("checking", 0, sum(map(len, rows)))
    rewards = planned.objective.rewards
    told = answers.ask(partial(check_coverage, rewards, *rows, poll=progress.poll))
    for line in told or ():
        progress.notice(line)
    measure = partial(measure_prompts, planned.policy.base, *rows, new_tokens, progress)
    tokens, refusals = answers.ask(measure) or (PromptTokens(), [])
    answers.add(refusals)
    return tokens


def _refuse_no_prompts() -> None:
    raise TrainingError("There are no prompts to train on; load at least one.")


def _tell_left_out(model: Any, progress: Progress) -> None:
    """Tell which matrices the adapter leaves as they are, if any."""
    left = left_as_it_is(model)
    if left:
        progress.notice(left)
