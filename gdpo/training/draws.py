"""What a step samples and scores: a group of completions for each prompt, and for some of the prompts a second one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..objective.director import Director
from ..progress import Progress
from ..prompts import Prompt
from ..rewards.scoring import score_rewards
from ..rollouts import Rollouts, joined, sample
from ..settings import TrainSettings
from .records import Stopwatch
from .schedule import derive_seed


class Draw(NamedTuple):
    """The completions of a step.

    Attributes:
        rollouts: Those of the B prompts, and those that were sampled again.
        rewards: Their rewards, `(K, B + E, G)`.
        again: E, the number of prompts that were sampled again.
    """

    rollouts: Rollouts
    rewards: Tensor
    again: int

    @property
    def prompts(self) -> int:
        """Return B."""
        return self.rewards.shape[1] - self.again


class Draws:
    """Samples and scores the steps of one run."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        director: Director,
        settings: TrainSettings,
        progress: Progress,
    ) -> None:
        """Keep what all steps share; the director's objective has the rewards."""
        self._model, self._tokenizer, self._director = model, tokenizer, director
        self._settings, self._progress = settings, progress

    def draw(self, batch: Sequence[Prompt], step: int, watch: Stopwatch) -> Draw:
        """Return the completions of a step: those of `batch`, and once more those of prompts that are stuck."""
        rollouts, rewards = self._sampled(batch, step, watch, "sample")
        stuck = self._stuck(batch, rewards)
        if stuck:
            more, theirs = self._sampled(stuck, step, watch, "sample again")
            self._director.learn(theirs)
            rollouts, rewards = joined(rollouts, more), torch.cat([rewards, theirs], 1)
        return Draw(rollouts, rewards, len(stuck))

    def _stuck(self, batch: Sequence[Prompt], rewards: Tensor) -> list[Prompt]:
        """Return the prompts that are sampled again: those that are stuck, as many as promise something, or one to see."""
        marks = self._director.stuck(rewards).tolist()
        found = [prompt for prompt, mark in zip(batch, marks, strict=True) if mark]
        most = self._settings.most_sampled_again
        return found[: math.ceil(max(1, most * self._director.patience)) if most else 0]

    def _sampled(
        self, batch: Sequence[Prompt], step: int, watch: Stopwatch, purpose: str
    ) -> tuple[Rollouts, Tensor]:
        settings, progress = self._settings, self._progress
        progress.phase("sampling", step - 1, settings.steps)
        rollouts = sample(
            self._model,
            self._tokenizer,
            batch,
            group_size=settings.group_size,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=derive_seed(settings.rng_seed, purpose, step),
            poll=progress.poll,
        )
        watch.lap("sample")
        progress.phase("scoring", step - 1, settings.steps)
        rewards = self._scored(batch, rollouts)
        watch.lap("score")
        return rollouts, rewards

    def _scored(self, batch: Sequence[Prompt], rollouts: Rollouts) -> Tensor:
        """Return the rewards of all completions, `(K, B, G)`."""
        rewards, group = self._director.objective.rewards, self._settings.group_size
        rows = [prompt for prompt in batch for _ in range(group)]
        scores = score_rewards(rewards, rows, rollouts.completions, self._progress.poll)  # (K, N)
        return scores.view(len(rewards), len(batch), group)
