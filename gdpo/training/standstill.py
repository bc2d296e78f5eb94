"""Notices a training that cannot move: its first steps gave no gradient at all."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import TrainingError
from ..runs.record import StepRecord
from ..settings import TrainSettings

# Both are needed: a reward that one completion in hundreds earns may still begin to teach.
_STEPS = 20
_COMPLETIONS = 1000


class Standstill:
    """Watches the steps from the first one on until one of them changes the policy."""

    def __init__(self, settings: TrainSettings) -> None:
        """Begin before the first step."""
        self._completions = settings.prompts_per_step * settings.group_size  # of one step
        self._still: list[StepRecord] = []
        self._moved = False

    def add(self, *records: StepRecord) -> None:
        """Take in steps, in their order; records without a step are left out."""
        for record in records:
            if self._moved or "rewards" not in record:
                continue
            self._moved = record.get("grad_norm") != 0
            self._still = [] if self._moved else [*self._still, record]

    def check(self) -> None:
        """Refuse another step where none has changed anything.

        Raises:
            TrainingError: Enough steps were made to see that none will.
        """
        steps = len(self._still)
        if self._moved or steps < _STEPS or steps * self._completions < _COMPLETIONS:
            return
        raise TrainingError(
            f"Nothing can be learned: in the first {steps} steps {_describe(self._still)}, so the policy has not "
            "changed; read completions.jsonl in the run's folder, then give partial credit, use easier prompts, or "
            "raise `temperature` or `max_new_tokens`, under another `run_name`."
        )


def _describe(steps: Sequence[StepRecord]) -> str:
    """What each reward gave, as clauses."""
    return ", ".join(_of_reward(name, steps) for name in steps[-1].get("rewards", {}))


def _of_reward(name: str, steps: Sequence[StepRecord]) -> str:
    means = {step.get("rewards", {})[name]["mean"] for step in steps}
    if means == {None}:
        return f"reward {name!r} scored nothing"
    if len(means) == 1:
        return f"reward {name!r} was {means.pop():g} for every completion"
    return f"reward {name!r} was the same for all completions of each prompt"
