"""One step of a training: sample, score, decide the weights, one backward pass, step.

It differs from a usual GRPO trainer in three ways: the backward pass also measures every reward's own gradient,
the weights of the rewards follow from what was measured in the steps before, and there is exactly one optimiser
step for each batch of rollouts, so the probability ratio is 1 and nothing is clipped.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..objective.objective import Objective
from ..policies.adapter import Adapter, read_adapter, write_adapter
from ..policies.base import Base
from ..progress import Progress
from ..prompts import Prompt
from ..rollouts import Rollouts
from ..runs.checkpoints import renew_marks, save_checkpoint
from ..runs.folder import Run
from ..runs.record import Figures, StepRecord
from ..runs.restore import restore_checkpoint
from ..settings import TrainSettings
from ..to_json import to_json
from ..update.passes import Differentiated
from . import records
from .averaging import Average
from .draws import Draws
from .evaluations import Evaluations
from .gradient import Parts, StepGradient
from .standstill import Standstill

# Completions of a step that are kept for reading.
SAMPLES = 4


class Loop:
    """What changes from step to step, and the step itself."""

    def __init__(
        self,
        model: Any,
        base: Base,
        objective: Objective,
        settings: TrainSettings,
        run: Run,
        progress: Progress,
        parts: Parts,
        evaluations: Evaluations,
    ) -> None:
        self.step, self._saved, self.converged = 0, -1, False
        self._recorded = 0  # the step whose parameters and records are whole; -1 in between
        self._renewed = False  # whether there are records that the checkpoint does not know
        self._evaluations = evaluations
        self._standstill = Standstill(settings)
        self._model, self._tokenizer = model, base.tokenizer
        self._objective, self._settings = objective, settings
        self._run, self._progress = run, progress
        self._gradient = StepGradient(model, base, objective, settings, parts, progress.poll)
        self._director = self._gradient.director
        self._draws = Draws(model, base.tokenizer, self._director, settings, progress)
        self._directed = self._director.state()  # after the last finished step
        self._stepper = parts.stepper(model, objective, settings, progress.poll)
        self._optimizer = self._stepper.optimizer
        self._average = Average(self._optimizer)

    def advance(self, batch: list[Prompt]) -> None:
        """One optimiser step on a batch of B prompts."""
        step, watch = self.step + 1, records.Stopwatch()
        self._standstill.check()

        rollouts, rewards, again = drawn = self._draws.draw(batch, step, watch)

        self._progress.phase("updating", self.step, self._settings.steps)
        plan = self._director.decide(self._director.observe(rewards, drawn.prompts))
        ratios, found = self._gradient.compute(plan, rewards, rollouts, step)
        products = found.gradients.inner_products().cpu()
        squared_norms = found.gradients.squared_norms.double().cpu()
        direction = self._director.measure(plan, products, squared_norms)
        moved = self._update(found, rollouts, step)
        watch.lap("update")

        record: StepRecord = {
            "step": step,
            **records.describe_rewards(self._objective.names, rewards[:, : drawn.prompts]),
            **records.describe_direction(self._objective, direction),
            **records.describe_completions(rollouts),
            **records.describe_update(found, ratios, rollouts),
            **moved,
            "sampled_again": again,
            **records.describe_cost(rollouts, watch, str(self._model.device)),
        }
        self._write(record, batch, rollouts, rewards)
        if step % self._settings.checkpoint_every == 0:
            self.save()

    def evaluate(self) -> None:
        """Evaluate if it is due at this step, and see whether the run has converged."""
        if self._evaluations.is_due(self.step):
            about = self.step, self._model, self._tokenizer, self._progress
            with self._average.shown():
                record = self._evaluations.add(*about)
            self._run.append(record)
            self._renewed = True
            self._progress.record(dict(record))
        self.converged = self._settings.stop_when_converged and self._evaluations.converged

    def resume(self) -> tuple[StepRecord, ...]:
        """Go to the newest checkpoint, or to the start; returns the records up to there, all others are dropped."""
        checkpoint = restore_checkpoint(self._run.folder)
        if checkpoint is not None:
            write_adapter(self._model, checkpoint.adapter)
            slots = {**self._optimizer.state_dict(), "state": checkpoint.slots}
            self._optimizer.load_state_dict(slots)
            self._average.swap()
            self._director.restore(checkpoint.state["director"])
            self._directed = self._director.state()
            self.step = self._recorded = checkpoint.state["step"]
            self._saved = self.step if checkpoint.records else -1  # an old one is written anew
        self._run.cut(self.step, checkpoint and checkpoint.records)
        history = self._run.history(self._objective.names)
        self._standstill.add(*history)
        self._evaluations.restore({r["step"]: r["eval"] for r in history if "eval" in r})
        return history

    def save(self) -> None:
        """Write a checkpoint of the last finished step, or let the one that is there vouch for later records.

        An interrupt between the optimiser's step and its record leaves nothing to save: the run then goes on from the
        checkpoint before.
        """
        if self.step == 0 or self._recorded != self.step:
            return
        records = self._run.marks()
        if self.step != self._saved:
            folder, state = self._run.folder, {"director": self._directed}
            with self._average.shown():
                adapter = read_adapter(self._model)
                save_checkpoint(folder, self.step, adapter, self._optimizer, state, records)
            self._saved = self.step
        elif self._renewed:
            renew_marks(self._run.folder, self.step, records)
        self._renewed = False

    def adapter(self) -> Adapter:
        """Return what the training has made so far: the average of its last policies."""
        with self._average.shown():
            return read_adapter(self._model)

    def _update(self, found: Differentiated, rollouts: Rollouts, step: int) -> Figures:
        """Move the parameters; returns what the record says of it."""
        self._recorded = -1
        moved = self._stepper.step(found, rollouts, step)
        self.step, self._directed = step, self._director.state()
        return moved

    def _write(
        self, record: StepRecord, batch: list[Prompt], rollouts: Rollouts, rewards: Tensor
    ) -> None:
        """Write the record of a finished step and some of its completions, and tell the host."""
        names, first = self._objective.names, batch[:SAMPLES]
        samples = records.describe_samples(record["step"], first, rollouts, names, rewards)
        plain, texts = to_json(record), to_json(samples)
        self._run.append(plain)
        self._run.append_completions(texts)
        self._recorded = self.step
        self._standstill.add(record)
        self._progress.record({**plain, "sample": texts[0]})
