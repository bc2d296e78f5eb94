"""The evaluations of a run: when one is due, what they found, and whether the run has converged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.heldout import evaluate, has_converged
from ..objective.objective import Objective
from ..progress import Progress
from ..prompts import Prompt
from ..runs.record import Evaluation, StepRecord
from ..settings import TrainSettings
from .schedule import derive_seed


class Evaluations:
    """The evaluations of one run, kept here so that no step has to read them from the run's file."""

    def __init__(
        self, heldout: Sequence[Prompt], objective: Objective, settings: TrainSettings
    ) -> None:
        """Begin without any; without held-out prompts none is ever due."""
        self.converged = False
        self._heldout, self._rewards, self._settings = heldout, objective.rewards, settings
        self._found: dict[int, Evaluation] = {}  # by the step after which it was made

    def restore(self, found: Mapping[int, Evaluation]) -> None:
        """Take in the evaluations that a run has already, by the step after which each was made."""
        self._found = dict(found)
        self.converged = has_converged(list(self._found.values()), self._rewards)

    def is_due(self, step: int) -> bool:
        """Tell whether the policy after `step` is to be evaluated and was not."""
        settings = self._settings
        every = settings.eval_every
        due = step == settings.steps or (every > 0 and step % every == 0)
        return bool(self._heldout) and due and step not in self._found

    def add(self, step: int, model: Any, tokenizer: Any, progress: Progress) -> StepRecord:
        """Evaluate the policy after `step`, and give the record of it."""
        settings = self._settings
        progress.phase("evaluating", 0, len(self._heldout))
        self._found[step] = evaluate(
            model,
            tokenizer,
            self._heldout,
            self._rewards,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            # The same draws each time, so that two evaluations differ by less noise.
            seed=derive_seed(settings.rng_seed, "evaluate", 0),
            progress=progress,
        )
        self.converged = has_converged(list(self._found.values()), self._rewards)
        return {"step": step, "eval": self._found[step], "converged": self.converged}
