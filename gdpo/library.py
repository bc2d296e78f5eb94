"""Training and evaluation from Python: settings by keyword, paths and prompts as text, a run in return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from .errors import PromptError, TrainingError
from .evaluation.answers import generate
from .evaluation.heldout import summarise
from .objective.objective import Objective
from .policies.policy import Policy
from .progress import Progress
from .prompts import Prompt, as_prompts
from .rewards.reward import Reward
from .runs.record import Evaluation
from .settings import TrainSettings
from .trained_run import TrainedRun
from .training import trainer


def train(
    policy: Policy,
    prompts: Sequence[Prompt | str],
    objective: Objective,
    folder: str | Path,
    *,
    heldout: Sequence[Prompt | str] = (),
    progress: Progress | None = None,
    **settings: Any,
) -> TrainedRun:
    """Train a LoRA adapter on several rewards, or go on with the run that is in `folder`.

    Args:
        policy: Start of the training; it is not changed.
        prompts: Drawn in a seeded order, all of them before any comes again; a text is a user's message.
        objective: Objective from `combine_rewards`.
        folder: The run's folder, made if absent.
        heldout: Prompts for evaluation only.
        progress: Receives phases and records, and may stop the training by raising.
        settings: Fields of `TrainSettings`, such as `steps=300`.

    Raises:
        TrainingError: A setting is not allowed, or the training cannot start or go on.
    """
    known = [item.name for item in fields(TrainSettings)]
    unknown = next((name for name in settings if name not in known), None)
    if unknown is not None:
        raise TrainingError(
            f"There is no setting {unknown!r}; the settings are {', '.join(known)}."
        )
    chosen = TrainSettings(**settings)
    result = trainer.train(
        policy,
        as_prompts(prompts),
        objective,
        chosen,
        Path(folder),
        heldout=as_prompts(heldout),
        progress=progress,
    )
    return TrainedRun(result.folder, result.policy)


def evaluate(
    model: Policy | str | Path,
    prompts: Sequence[Prompt | str],
    rewards: Sequence[Reward],
    *,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Sample one completion for each prompt and score it: means with standard errors, and lengths.

    Args:
        model: A policy, trained or not, or the path of a GGUF file.
        prompts: One or more prompts; a text is a user's message.
        rewards: Those to score with.
        max_new_tokens: Longest completion, in tokens.
        temperature: Divides the logits; 0 takes the likeliest token.
        seed: Number of at least 0; the completions depend on it.
        progress: Receives the phase, and may stop the evaluation by raising.

    Returns:
        `{"rewards": {name: {"mean", "standard_error"}}, "length": {"mean", "std"}, "truncated": share}`.

    Raises:
        PromptError: There are no prompts.
    """
    asked = as_prompts(prompts)
    if not asked:
        raise PromptError("There are no prompts to evaluate on; load some.")
    found = generate(
        model,
        asked,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        progress=progress,
    )
    return summarise(rewards, asked, found)
