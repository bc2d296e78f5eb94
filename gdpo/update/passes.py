"""The passes through the model that one step needs: the base's log-probabilities and the gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import TrainingError
from ..optimizers import NATURAL
from ..polling import polled
from ..rollouts import Rollouts
from ..settings import TrainSettings
from .logprobs import TokenScores, checkpointing, score_tokens
from .micro_batches import Batch, plan
from .reward_gradients import RewardGradients
from .shared_prompts import SharedPrompts

# Sampling and update compute the same log-probabilities in two ways. bf16 makes them differ by about 0.01.
_MAX_SAMPLER_GAP = 0.2


class Differentiated(NamedTuple):
    """What one backward pass gives.

    Attributes:
        gradients: The combined one, and what is known of each reward's.
        entropy: Mean over the completions' tokens, in nats.
        sampler_gap: Mean |log pi of the update - log pi of the sampling| per token, in nats.
        logprobs: log pi of each token, as the update computes it, `(N, T)`, float64; 0 where masked.
    """

    gradients: RewardGradients
    entropy: float
    sampler_gap: float
    logprobs: Tensor


@torch.no_grad()
def log_ratios(
    model: Any,
    rollouts: Rollouts,
    settings: TrainSettings,
    every: int,
    poll: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return the log-ratio log pi - log pi_base of each token of every `every`-th completion, `(N, T)`; NaN in the other rows.

    The base is the same model with its adapter off. One completion of each prompt is enough to watch the
    divergence; all of them cost a forward pass of the whole batch.
    """
    ratios = torch.full_like(rollouts.logprobs, torch.nan)
    chosen = torch.arange(0, len(ratios), every, device=ratios.device)
    with model.disable_adapter(), polled(model, poll):
        batches = plan(model, rollouts, chosen, settings.micro_batch, settings.temperature)
        for rows, scores in _scored(model, rollouts, batches, settings.temperature):
            base = scores.logprobs
            width = base.shape[1]
            ratios[rows] = 0.0
            ratios[rows, :width] = rollouts.logprobs[rows, :width] - base
    return ratios


@torch.no_grad()
def divergence(
    model: Any,
    rollouts: Rollouts,
    before: Tensor,
    settings: TrainSettings,
    every: int,
    poll: Callable[[], None] = lambda: None,
) -> float:
    """Return KL(before || now) of the policy, in nats a completion, from every `every`-th completion.

    exp(d) - 1 - d, with d = log pi(y) now - log pi(y) before, is never negative and unbiased (Schulman, 2020). Near 0 it
    is d^2 / 2, whose mean is what a natural step predicts. `before` is `Differentiated.logprobs`, `(N, T)`: the sampling's
    own differ from the update's by rounding, which adds up over a long completion in 16 bits.
    """
    chosen = torch.arange(0, len(rollouts.lengths), every, device=rollouts.lengths.device)
    total = torch.zeros((), dtype=torch.float64, device=rollouts.logprobs.device)
    with polled(model, poll):
        batches = plan(
            model, rollouts, chosen, settings.micro_batch, settings.temperature, share=False
        )
        for rows, scores in _scored(model, rollouts, batches, settings.temperature):
            width = scores.logprobs.shape[1]
            moved = (scores.logprobs - before[rows, :width]).double().sum(1)
            total += (moved.exp() - 1 - moved).sum()
    return float(total / len(chosen))


def differentiate(
    model: Any,
    rollouts: Rollouts,
    combination: Tensor,
    advantages: Tensor,
    settings: TrainSettings,
    poll: Callable[[], None],
    seed: int = 0,
    batches: Sequence[Batch] | None = None,
    keep: torch.device | None = None,
) -> Differentiated:
    """Return the gradient (1/N) sum_i c_i s_i and the inner products of the rewards' gradients, in one backward pass.

    s_i = grad l_i with l_i = (N / tokens of the batch) sum_t log pi: every token of the step weighs the
    same, whichever completion it is in (DAPO, arXiv 2503.14476). The ratio of the policy to the one that
    sampled is 1 by construction; that the numbers agree is checked, since it fails silently where an
    architecture is not understood.

    Args:
        model: Model with the adapter that is being trained.
        rollouts: N completions.
        combination: c, the advantages that the step follows, `(N,)`.
        advantages: Those of each reward, `(K, N)`.
        settings: For the micro-batches, the temperature and activation checkpointing.
        poll: Called before each layer, forward and backward; may raise to stop.
        seed: Seed of the sketches' signs.
        batches: Micro-batches to use. If None, they are planned here.
        keep: Device on which each completion's own score is kept; None: none is.

    Raises:
        TrainingError: The update's log-probabilities are not those of the sampling, or a matrix has no gradient.
    """
    count, device = len(combination), rollouts.logprobs.device
    gradients = RewardGradients(model, combination, advantages, seed, keep)
    tokens = rollouts.lengths.sum()
    entropy, gap = torch.zeros((), device=device), torch.zeros((), device=device)
    logprobs = torch.zeros_like(rollouts.logprobs, dtype=torch.float64)
    with (
        checkpointing(model, settings.gradient_checkpointing),
        gradients.recording(),
        polled(model, poll),
    ):
        batches = batches or plan_update(model, rollouts, settings)
        passes = _scored(model, rollouts, batches, settings.temperature, combination, gradients)
        for part, scores in passes:
            gradients.backward(count / tokens * scores.logprobs.sum(1), part)
            entropy += scores.entropy.sum()
            width, now = scores.logprobs.shape[1], scores.logprobs.detach()
            logprobs[part, :width] = now.to(logprobs)
            gap += (now - rollouts.logprobs[part, :width]).abs().sum()
    gradients.check_reported(model)
    found = Differentiated(gradients, float(entropy / tokens), float(gap / tokens), logprobs)
    if not found.sampler_gap <= _MAX_SAMPLER_GAP:
        raise TrainingError(
            f"Sampling and update disagree on the model's log-probabilities by {found.sampler_gap:.2g} nats per "
            "token, so training would be wrong; this architecture or precision is not supported, try bf16 or fp32."
        )
    return found


def plan_update(model: Any, rollouts: Rollouts, settings: TrainSettings) -> list[Batch]:
    """Return what passes together in `differentiate`.

    With activation checkpointing prompts are not shared: transformers' layers have no cache then. Nor are they where
    every completion's own score is needed, of which the part that passes through a shared prompt cannot be told apart.
    """
    rows = torch.arange(len(rollouts.lengths), device=rollouts.lengths.device)
    share = not settings.gradient_checkpointing and settings.optimizer != NATURAL
    return plan(model, rollouts, rows, settings.micro_batch, settings.temperature, share=share)


def _scored(
    model: Any,
    rollouts: Rollouts,
    batches: Sequence[Batch],
    temperature: float,
    combination: Tensor | None = None,
    gradients: RewardGradients | None = None,
) -> Iterator[tuple[Tensor, TokenScores]]:
    """Yield each micro-batch with its scores; shared prompts go back when their completions have."""
    for batch in batches:
        if batch.owners is None:
            for part in batch.parts:
                yield part, score_tokens(model, rollouts, part, temperature)
            continue
        prompts = SharedPrompts(model, rollouts, batch.owners, combination)
        for part in batch.parts:
            yield part, prompts.score(part, temperature)
        if gradients is not None:
            prompts.backward(gradients)
