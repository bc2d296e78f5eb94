"""The training loop: sample, score, one backward pass, decide the weights, step.

It differs from a usual GRPO trainer in three ways: every reward keeps its own gradient, the weights of the
rewards are decided after these gradients are known, and there is exactly one optimiser step for each batch
of rollouts, so the probability ratio is 1 and nothing is clipped.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .advantages import batch_std, dead_groups
from .checkpoints import load_checkpoint, newest_checkpoint, save_checkpoint
from .director import Direction, Director
from .errors import TrainingError
from .evaluation import evaluate
from .gradients import RewardGradients
from .logprobs import checkpointing, score_tokens
from .methods import Objective, direct_advantages
from .optimizers import make_optimizer
from .policy import Policy, read_adapter, trainable, write_adapter
from .progress import Progress
from .prompts import Prompt
from .rewards.base import score_rewards
from .rollouts import Rollouts, sample
from .runs import Run, identify, open_run
from .settings import TrainSettings

# Consecutive evaluations in which every reward holds its target.
CONVERGED_EVALUATIONS = 3
# Completions of a step that are kept for reading.
_SAMPLES = 4


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
        torch.inference_mode(False),
        trainable(policy, rank=rank, alpha=alpha, seed=seed) as model,
    ):
        loop = _Loop(model, policy.base.tokenizer, objective, settings, run, progress)
        loop.resume()
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
        model: Any,  # noqa: ANN401
        tokenizer: Any,  # noqa: ANN401
        objective: Objective,
        settings: TrainSettings,
        run: Run,
        progress: Progress,
    ) -> None:
        self.step = 0
        self.converged = False
        self._saved = -1
        self._model, self._tokenizer = model, tokenizer
        self._objective, self._settings = objective, settings
        self._run, self._progress = run, progress
        self._director = Director(objective)
        self._directed = self._director.state()  # after the last finished step
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(settings.optimizer, self._parameters, settings.learning_rate)

    def advance(self, batch: list[Prompt]) -> None:
        """One optimiser step on a batch of B prompts."""
        begin = time.perf_counter()
        objective, settings, step = self._objective, self._settings, self.step + 1
        shape = (len(objective.rewards), len(batch), settings.group_size)

        self._phase("sampling")
        rollouts = self._sample(batch, step)
        sampled = time.perf_counter()

        self._phase("scoring")
        rows = [prompt for prompt in batch for _ in range(settings.group_size)]
        rewards = score_rewards(objective.rewards, rows, rollouts.completions, self._progress.poll)  # (K, N)
        scored = time.perf_counter()

        self._phase("updating")
        grouped = rewards.view(shape)  # (K, B, G)
        advantages = self._director.observe(grouped)
        ratios = self._ratios(rollouts)
        direct = self._direct(grouped, ratios, rollouts)
        gradients, entropy = self._differentiate(rollouts, advantages, direct)
        direction = self._decide(gradients, advantages)
        combined = torch.einsum("k,kbg->bg", direction.weights, advantages)
        weights = direction.weights / batch_std(combined, grouped)
        norm = self._update(gradients, weights, step, direct is not None)
        self.step, self._directed = step, self._director.state()

        updated = time.perf_counter()
        seconds = {
            "sample": sampled - begin,
            "score": scored - sampled,
            "update": updated - scored,
            "total": updated - begin,
        }
        self._record(rollouts, grouped, direction, seconds, entropy, _kl(ratios, rollouts), norm)
        self._keep_samples(batch, rollouts, rewards)
        if step % settings.checkpoint_every == 0:
            self.save()

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

    @torch.no_grad()
    def _ratios(self, rollouts: Rollouts) -> Tensor:
        """log pi - log pi_base of each token, `(N, T)`; NaN in rows that only serve the KL estimate.

        One completion of each prompt is enough to watch the divergence; the rest is computed only for
        methods that need it, since it costs a forward pass of the base.
        """
        needed = self._objective.method == "group_dpo" or self._settings.kl_coeff > 0
        every = 1 if needed else self._settings.group_size
        ratios = torch.full_like(rollouts.logprobs, torch.nan)
        chosen = torch.arange(0, len(ratios), every, device=ratios.device)
        with self._model.disable_adapter():
            for rows in self._micro_batches(rollouts, chosen):
                base = score_tokens(self._model, rollouts, rows, self._settings.temperature).logprobs
                width = base.shape[1]
                ratios[rows] = 0.0
                ratios[rows, :width] = rollouts.logprobs[rows, :width] - base
        return ratios

    def _direct(self, rewards: Tensor, ratios: Tensor, rollouts: Rollouts) -> Tensor | None:
        """Advantages outside the rewards' weights, `(N,)`: the method's own, and the pull to the base."""
        shape = rewards.shape[1:]
        totals = ratios.sum(1).double().cpu().view(shape)
        direct = direct_advantages(self._objective, rewards, totals)
        if direct is not None:
            # Its formula has no token normaliser: undo the one of `_differentiate`.
            direct = direct * float(rollouts.lengths.sum())
        if self._settings.kl_coeff > 0:
            pull = -self._settings.kl_coeff * (totals - totals.mean(-1, keepdim=True))
            direct = pull if direct is None else direct + pull
        return None if direct is None else direct.flatten()

    def _differentiate(
        self, rollouts: Rollouts, advantages: Tensor, direct: Tensor | None
    ) -> tuple[RewardGradients, float]:
        """One backward pass: the gradients of all rewards (and of `direct`, as the last row); the entropy."""
        coefficients = advantages.flatten(1)  # (K, N)
        if direct is not None:
            coefficients = torch.cat([coefficients, direct[None]])
        count = coefficients.shape[1]
        device = rollouts.logprobs.device
        gradients = RewardGradients(self._model, (coefficients / count).float().to(device))
        # l_i = (N / tokens of the batch) sum_t log pi: every token of the step weighs the same (DAPO).
        normaliser = count / rollouts.lengths.sum()
        entropy = torch.zeros((), device=device)
        rows = torch.arange(count, device=device)
        with checkpointing(self._model, self._settings.gradient_checkpointing), gradients.recording():
            for part in self._micro_batches(rollouts, rows):
                self._progress.poll()
                scores = score_tokens(self._model, rollouts, part, self._settings.temperature)
                gradients.backward(normaliser * scores.logprobs.sum(1), part)
                entropy += scores.entropy.sum()
        return gradients, float(entropy / rollouts.lengths.sum())

    def _decide(self, gradients: RewardGradients, advantages: Tensor) -> Direction:
        count = len(self._objective.rewards)
        raw = gradients.inner_products()[:count, :count].cpu()
        return self._director.decide(raw, advantages.flatten(1), gradients.squared_norms.double().cpu())

    def _update(self, gradients: RewardGradients, weights: Tensor, step: int, direct: bool) -> float:
        """Climb along the weighted sum of the gradients; returns its norm before clipping."""
        if self._objective.method == "group_dpo":
            weights = torch.zeros_like(weights)  # its own advantage is the step; the rewards' are for diagnosis
        if direct:
            weights = torch.cat([weights, weights.new_ones(1)])
        for parameter, gradient in zip(gradients.parameters, gradients.combine(weights), strict=True):
            parameter.grad = -gradient.to(parameter.dtype)
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.max_grad_norm))
        if norm != norm or norm == float("inf"):
            raise TrainingError(
                f"The gradient of step {step} is not finite ({norm}); lower `learning_rate` or use bf16 or fp32."
            )
        rate = self._rate(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def _rate(self, step: int) -> float:
        """Learning rate: a linear rise, then constant, so that a run can be made longer."""
        return self._settings.learning_rate * min(1.0, step / max(1, self._settings.warmup_steps))

    def evaluate(self, heldout: Sequence[Prompt]) -> None:
        """Evaluate if it is due at this step and was not done, and see whether the run has converged."""
        settings = self._settings
        due = self.step % settings.eval_every == 0 or self.step == settings.steps
        past = self._run.evaluations()
        if heldout and due and self.step not in {step for step, _ in past}:
            self._phase("evaluating")
            found = evaluate(
                self._model,
                self._tokenizer,
                heldout,
                self._objective.rewards,
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                seed=derive_seed(settings.rng_seed, "evaluate", 0),  # the same draws each time: less noise
                progress=self._progress,
            )
            past.append((self.step, found))
            record = {"step": self.step, "eval": found, "converged": self._has_converged(past)}
            self._run.append(record)
            self._progress.record(record)
        self.converged = settings.stop_when_converged and self._has_converged(past)

    def _has_converged(self, evaluations: list[tuple[int, dict[str, Any]]]) -> bool:
        last = evaluations[-CONVERGED_EVALUATIONS:]
        targets = {reward.name: float(reward.target or 0) for reward in self._objective.rewards}
        return len(last) == CONVERGED_EVALUATIONS and all(
            (found["rewards"][name]["mean"] or -1e300) >= target
            for _, found in last
            for name, target in targets.items()
        )

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
        """Write a checkpoint of the last finished step, unless there is one."""
        if self.step in {self._saved, 0}:
            return
        state = {"director": self._directed}
        save_checkpoint(self._run.folder, self.step, read_adapter(self._model), self._optimizer, state)
        self._saved = self.step

    def _phase(self, name: str) -> None:
        self._progress.phase(name, self.step, self._settings.steps)

    def _micro_batches(self, rollouts: Rollouts, rows: Tensor) -> Iterator[Tensor]:
        """Split rows into micro-batches of similar length, so that little is padded."""
        lengths = (rollouts.prompt_mask.sum(1) + rollouts.lengths)[rows]
        order = rows[lengths.argsort(stable=True)]
        yield from order.split(self._settings.micro_batch)

    def _record(
        self,
        rollouts: Rollouts,
        rewards: Tensor,
        direction: Direction,
        seconds: dict[str, float],
        entropy: float,
        kl: float,
        norm: float,
    ) -> None:
        names = self._objective.names
        flat, dead = rewards.flatten(1), dead_groups(rewards)
        lengths = rollouts.lengths.double()
        record = {
            "step": self.step,
            "rewards": {
                name: {"mean": flat[k].nanmean(), "std": _nanstd(flat[k]), "dead_groups": dead[k]}
                for k, name in enumerate(names)
            },
            "preferences": dict(zip(names, direction.preferences, strict=True)),
            "weights": dict(zip(names, direction.weights, strict=True)),
            "deficits": dict(zip(names, direction.deficits, strict=True)),
            "cosines": direction.cosines,
            "dispersion": direction.dispersion,
            "dispersion_floor": self._objective.dispersion_floor if self._objective.directs else None,
            "dispersion_reached": direction.dispersion_reached,
            "length": {"mean": lengths.mean(), "std": lengths.std(unbiased=False)},
            "truncated": sum(c.truncated for c in rollouts.completions) / len(rollouts.completions),
            "entropy": entropy,
            "kl": kl,
            "grad_norm": norm,
            "learning_rate": self._rate(self.step),
            "tokens_per_second": float(lengths.sum()) / seconds["sample"],
            "seconds": seconds,
            "peak_memory_mb": _peak_memory_mb(),
        }
        self._run.append(record)
        self._progress.record(record)

    def _keep_samples(self, batch: list[Prompt], rollouts: Rollouts, rewards: Tensor) -> None:
        group = self._settings.group_size
        for b in range(min(_SAMPLES, len(batch))):
            scores = dict(zip(self._objective.names, rewards[:, b * group], strict=True))
            completion = rollouts.completions[b * group].text
            self._run.append_completion(
                {"step": self.step, "prompt": batch[b].text, "completion": completion, "rewards": scores}
            )


def draw(prompts: Sequence[Prompt], count: int, step: int, seed: int) -> list[Prompt]:
    """The prompts of `step`: each epoch goes through all of them in a shuffled order of its own."""
    chosen = []
    for index in range((step - 1) * count, step * count):
        epoch, place = divmod(index, len(prompts))
        order = list(range(len(prompts)))
        random.Random(derive_seed(seed, "epoch", epoch)).shuffle(order)
        chosen.append(prompts[order[place]])
    return chosen


def derive_seed(seed: int, purpose: str, number: int) -> int:
    """A seed for one purpose and step: no generator's state has to survive from one step to the next."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def _kl(ratios: Tensor, rollouts: Rollouts) -> float:
    """KL(pi || base) for each token, by the unbiased, never negative estimator exp(-d) - 1 + d."""
    known = ratios[rollouts.completion_mask & ~ratios.isnan()]
    return float((torch.exp(-known) - 1 + known).mean())


def _nanstd(values: Tensor) -> float:
    known = values[~values.isnan()]
    return float(known.std(unbiased=False)) if len(known) else float("nan")


def _peak_memory_mb() -> float:
    """Peak memory so far: of the card's allocator on CUDA, of the process otherwise."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
