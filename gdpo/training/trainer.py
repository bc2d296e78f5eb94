"""The training loop: sample, score, decide the weights, one backward pass, step.

It differs from a usual GRPO trainer in three ways: the backward pass also measures every reward's own gradient,
the weights of the rewards follow from what was measured in the steps before, and there is exactly one optimiser
step for each batch of rollouts, so the probability ratio is 1 and nothing is clipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..allocator import lean_heap
from ..errors import TrainingError
from ..evaluation.heldout import evaluate, has_converged
from ..memory import Retreat, explain_shortage
from ..objective.director import Director
from ..objective.objective import Objective
from ..optimizers import make_optimizer
from ..policies.adapter import read_adapter, write_adapter
from ..policies.base import Base
from ..policies.policy import Policy, trainable
from ..progress import Progress
from ..prompts import Prompt
from ..rewards.scoring import score_rewards
from ..rollouts import Rollouts, sample
from ..runs.checkpoints import load_checkpoint, newest_checkpoint, save_checkpoint
from ..runs.folder import Run, identify, open_run
from ..settings import TrainSettings
from ..to_json import to_json
from ..update.passes import Differentiated, differentiate, log_ratios
from ..update.reward_gradients import RewardGradients
from .records import (
    Stopwatch,
    describe_completions,
    describe_direction,
    describe_rewards,
    describe_samples,
    kl_estimate,
    peak_memory_mb,
)
from .schedule import derive_seed, draw, learning_rate

# Completions of a step that are kept for reading.
_SAMPLES = 4


@dataclass(frozen=True)
class Parts:
    """The exchangeable parts of a step; who compares several ways to make it gives others.

    Attributes:
        director: Makes what decides the weights of one run.
        differentiate: Gives the step's gradient and what is known of each reward's, as `update.passes` does.
    """

    director: Callable[[Objective], Director] = Director
    differentiate: Callable[..., Differentiated] = differentiate


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
    parts: Parts = Parts(),
) -> TrainResult:
    """Train a LoRA adapter on several rewards, or go on with the run that is in `folder`.

    The input policy is not changed. If anything raises, an interrupt of the host too, the finished steps
    are saved as a checkpoint and the exception passes.

    Args:
        policy: Where to start; its own adapter, if any, is copied.
        prompts: Drawn in a seeded order, all of them before any comes again.
        objective: The rewards and the method.
        settings: See `TrainSettings`.
        folder: The run's folder, made if absent.
        heldout: Prompts for evaluation only.
        progress: Receives phases and records, and may stop the training by raising.
        workflow: Kept in `run.json`.
        parts: What a step is made of.

    Raises:
        TrainingError: The training cannot start or go on.
    """
    if not prompts:
        raise TrainingError("There are no prompts to train on; load at least one.")
    progress = progress or Progress()
    identity = identify(policy, prompts, heldout, objective, settings)
    seed, rank, alpha = settings.rng_seed, settings.lora_rank, settings.lora_alpha
    with (
        open_run(folder, identity, workflow) as run,
        lean_heap(policy.base.device, policy.base.model.num_parameters()),
        torch.inference_mode(False),
        trainable(policy, rank=rank, alpha=alpha, seed=seed) as model,
    ):
        loop = _Loop(model, policy.base, objective, settings, run, progress, parts)
        loop.resume()
        if loop.step > settings.steps:
            raise TrainingError(
                f"The run {folder.name!r} is already trained for {loop.step} steps and `steps` is "
                f"{settings.steps}; raise it, or choose another `run_name`."
            )
        try:
            loop.evaluate(heldout)
            while loop.step < settings.steps and not loop.converged:
                loop.advance(draw(prompts, settings.prompts_per_step, loop.step + 1, seed))
                loop.evaluate(heldout)
        finally:
            loop.save()
        adapter = read_adapter(model)
        run.finish(adapter)
    return TrainResult(Policy(policy.base, adapter, folder), folder)


class _Loop:
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
    ) -> None:
        self.step = 0
        self.converged = False
        self._saved = -1
        self._model, self._base, self._tokenizer = model, base, base.tokenizer
        self._objective, self._settings = objective, settings
        self._run, self._progress = run, progress
        self._director, self._differentiate = parts.director(objective), parts.differentiate
        self._directed = self._director.state()  # after the last finished step
        self._torn = False  # whether the parameters are those of no step
        self._retreat = Retreat(settings, base.device)
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(
            settings.optimizer, self._parameters, settings.learning_rate
        )

    def advance(self, batch: list[Prompt]) -> None:
        """One optimiser step on a batch of B prompts."""
        objective, settings, step = self._objective, self._settings, self.step + 1
        watch, poll = Stopwatch(), self._progress.poll

        self._phase("sampling")
        rollouts = self._sample(batch, step)
        watch.lap("sample")

        self._phase("scoring")
        rows = [prompt for prompt in batch for _ in range(settings.group_size)]
        rewards = score_rewards(objective.rewards, rows, rollouts.completions, poll)  # (K, N)
        grouped = rewards.view(len(rewards), len(batch), settings.group_size)  # (K, B, G)
        watch.lap("score")

        self._phase("updating")
        advantages = self._director.observe(grouped)
        weights = self._director.decide()
        ratios, passed = self._passes(rollouts, weights, advantages, grouped, step)
        direction = self._director.measure(
            passed.gradients.inner_products().cpu(),
            advantages.flatten(1),
            passed.gradients.squared_norms.double().cpu(),
        )
        norm = self._update(passed.gradients, step)
        watch.lap("update")

        record = {
            "step": step,
            **describe_rewards(objective.names, grouped),
            **describe_direction(objective, direction),
            **describe_completions(rollouts),
            "entropy": passed.entropy,
            "sampler_gap": passed.sampler_gap,
            "kl": kl_estimate(ratios, rollouts),
            "grad_norm": norm,
            "learning_rate": self._rate(step),
            "tokens_per_second": float(rollouts.lengths.sum()) / watch.seconds()["sample"],
            "seconds": watch.seconds(),
            "peak_memory_mb": peak_memory_mb(str(self._model.device)),
        }
        self._run.append(record)
        samples = describe_samples(step, batch[:_SAMPLES], rollouts, objective.names, grouped)
        self._run.append_completions(samples)
        self._progress.record(to_json({**record, "sample": samples[0]}))
        if step % settings.checkpoint_every == 0:
            self.save()

    def _passes(
        self, rollouts: Rollouts, weights: Tensor, advantages: Tensor, rewards: Tensor, step: int
    ) -> tuple[Tensor, Differentiated]:
        """The log-ratios to the base and the gradients; in smaller micro-batches if memory runs out."""
        poll, settings = self._progress.poll, self._settings
        all_ratios = self._objective.method.needs_ratios or settings.kl_coeff > 0
        every = 1 if all_ratios else settings.group_size
        seed = derive_seed(settings.rng_seed, "sketch", step)

        def passes(limited: TrainSettings) -> tuple[Tensor, Differentiated]:
            ratios = log_ratios(self._model, rollouts, limited, every, poll)
            combined = self._combine(weights, advantages, rewards, ratios, rollouts)
            parts = advantages.flatten(1)
            return ratios, self._differentiate(
                self._model, rollouts, combined, parts, limited, poll, seed=seed
            )

        return self._retreat.run(passes, partial(self._explain_shortage, rollouts))

    def _explain_shortage(self, rollouts: Rollouts, settings: TrainSettings) -> str:
        """What the training needs, and what to change."""
        return explain_shortage(
            self._base.model.config,
            settings,
            rewards=len(self._objective.rewards),
            precision=self._base.precision,
            device=self._base.device,
            prompt_tokens=rollouts.prompt_ids.shape[1],
            adapter=self._model.peft_config["default"].to_dict(),
            loaded=True,
        )

    def _sample(self, batch: list[Prompt], step: int) -> Rollouts:
        settings = self._settings
        return sample(
            self._model,
            self._tokenizer,
            batch,
            group_size=settings.group_size,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=derive_seed(settings.rng_seed, "sample", step),
            poll=self._progress.poll,
        )

    def _combine(
        self,
        weights: Tensor,
        advantages: Tensor,
        rewards: Tensor,
        ratios: Tensor,
        rollouts: Rollouts,
    ) -> Tensor:
        """The advantages that the step follows, `(N,)`: the weighted sum, or the method's own; and the pull to the base."""
        totals = ratios.sum(1).double().cpu().view(rewards.shape[1:])
        combined = self._director.combine(weights, advantages, rewards, totals)
        if (
            self._objective.method.weighs_completions
        ):  # undo the token normaliser of `differentiate`
            combined = combined * float(rollouts.lengths.sum())
        if self._settings.kl_coeff > 0:
            pull = totals - totals.mean(-1, keepdim=True)
            combined = combined - self._settings.kl_coeff * pull
        return combined.flatten()

    def _update(self, gradients: RewardGradients, step: int) -> float:
        """Climb along the combined gradient; returns its norm before clipping."""
        for parameter, gradient in zip(gradients.parameters, gradients.combined, strict=True):
            parameter.grad = gradient.neg_().to(parameter.dtype)  # optimisers descend
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.max_grad_norm))
        if norm != norm or norm == float("inf"):
            raise TrainingError(
                f"The gradient of step {step} is not finite ({norm}); lower `learning_rate` or use bf16 or fp32."
            )
        rate = self._rate(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._torn = True
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step, self._directed, self._torn = step, self._director.state(), False
        return norm

    def _rate(self, step: int) -> float:
        return learning_rate(self._settings.learning_rate, step, self._settings.warmup_steps)

    def evaluate(self, heldout: Sequence[Prompt]) -> None:
        """Evaluate if it is due at this step and was not done, and see whether the run has converged."""
        settings = self._settings
        due = self.step % settings.eval_every == 0 or self.step == settings.steps
        past = self._run.evaluations()
        if heldout and due and self.step not in {step for step, _ in past}:
            self._progress.phase("evaluating", 0, len(heldout))
            found = evaluate(
                self._model,
                self._tokenizer,
                heldout,
                self._objective.rewards,
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                seed=derive_seed(
                    settings.rng_seed, "evaluate", 0
                ),  # the same draws each time: less noise
                progress=self._progress,
            )
            past.append((self.step, found))
            reached = has_converged(past, self._objective.rewards)
            record = {"step": self.step, "eval": found, "converged": reached}
            self._run.append(record)
            self._progress.record(to_json(record))
        reached = has_converged(past, self._objective.rewards)
        self.converged = settings.stop_when_converged and reached

    def resume(self) -> None:
        """Go to the newest checkpoint, or to the start, and forget what was recorded after it."""
        checkpoint = newest_checkpoint(self._run.folder)
        if checkpoint is not None:
            adapter, state = load_checkpoint(checkpoint, self._optimizer)
            write_adapter(self._model, adapter)
            self._director.restore(state["director"])
            self._directed = state["director"]
            self.step = self._saved = state["step"]
        self._run.rewind(self.step)

    def save(self) -> None:
        """Write a checkpoint of the last finished step, unless there is one.

        An interrupt in the middle of the optimiser's step leaves nothing to save: the run then goes on from
        the checkpoint before.
        """
        if self._torn or self.step in {self._saved, 0}:
            return
        state = {"director": self._directed}
        save_checkpoint(
            self._run.folder, self.step, read_adapter(self._model), self._optimizer, state
        )
        self._saved = self.step

    def _phase(self, name: str) -> None:
        self._progress.phase(name, self.step, self._settings.steps)
