"""Four ways to make the same directed update, on one model and one batch of completions.

All end with clipping and the optimiser's step, whose learning rate is 0 here: the model stays what the
completions were sampled from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gdpo.objective import advantages
from gdpo.objective.director import Director
from gdpo.objective.objective import Objective
from gdpo.rewards import Conciseness, Reward
from gdpo.rollouts import Rollouts
from gdpo.settings import TrainSettings
from gdpo.update import micro_batches as batches
from gdpo.update.logprobs import score_tokens
from gdpo.update.passes import differentiate

# The director decides with the plain preferences for its first steps; measured is what follows.
_DIRECTOR_WARMUP = 4


@dataclass(frozen=True, eq=False)
class Batch:
    """A model with its adapter and optimiser, and completions with K rewards each.

    Attributes:
        model: With the adapter that is trained.
        parameters: The adapter's.
        optimizer: Of these, with learning rate 0.
        rollouts: N completions.
        rewards: `(K, B, G)`, random.
        director: Past its first steps.
        settings: For micro-batches and temperature.
    """

    model: Any
    parameters: list[Tensor]
    optimizer: torch.optim.Optimizer
    rollouts: Rollouts
    rewards: Tensor
    director: Director
    settings: TrainSettings


def make_optimizer(model: Any) -> torch.optim.Optimizer:
    """For the adapter of `model`, with learning rate 0."""
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)


def make_batch(
    model: Any,
    optimizer: torch.optim.Optimizer,
    rollouts: Rollouts,
    count: int,
    group: int,
    settings: TrainSettings,
) -> Batch:
    """A batch with `count` random rewards in groups of `group` completions."""
    generator = torch.Generator().manual_seed(count)
    completions = len(rollouts.completion_ids)
    rewards = torch.rand(
        count, completions // group, group, generator=generator, dtype=torch.float64
    )
    scorer = Conciseness()
    director = Director(
        Objective(
            tuple(Reward(f"reward {k}", scorer) for k in range(count)), "gdpo", "directed", 0.7
        )
    )
    for _ in range(_DIRECTOR_WARMUP):
        plan = director.decide(director.observe(rewards))
        directions = torch.randn(count, 2 * count, generator=generator, dtype=torch.float64)
        director.measure(plan, directions @ directions.T, torch.zeros(completions))
    parameters = [p for p in model.parameters() if p.requires_grad]
    return Batch(model, parameters, optimizer, rollouts, rewards, director, settings)


def plain(batch: Batch) -> None:
    """What any trainer does: one backward pass of the rewards' fixed-weight sum, by autograd alone."""
    parts = advantages.decoupled(batch.rewards)
    combined = parts.mean(0) / advantages.batch_std(parts.mean(0), batch.rewards)
    step(batch, [gradient[0] for gradient in _each(batch, combined.view(1, -1), retain=False)])


def retained(batch: Batch) -> None:
    """K backward passes on one retained graph, into K buffers."""
    _directed(batch, lambda parts: _each(batch, parts, retain=True))


def rerun(batch: Batch) -> None:
    """K forward and backward passes, into K buffers."""

    def passes(parts: Tensor) -> list[Tensor]:
        buffers = _zeros(batch, len(parts))
        for k, part in enumerate(parts):
            for buffer, found in zip(buffers, _each(batch, part[None], retain=False), strict=True):
                buffer[k] = found[0]
        return buffers

    _directed(batch, passes)


def one_pass(batch: Batch) -> None:
    """Ours: one backward pass into one combined gradient and K sketches.

    Every completion carries its own prompt, as in the other ways: what sharing prompts saves is not counted here.
    """
    director = batch.director
    plan = director.decide(director.observe(batch.rewards))
    combined = torch.einsum("k,kbg->bg", plan.weights, plan.advantages)
    combined = (combined / advantages.batch_std(combined, batch.rewards)).flatten()
    flat = plan.advantages.flatten(1)
    rows = torch.arange(flat.shape[1])
    passes = [
        batches.Batch(
            tuple(batches.micro_batches(batch.rollouts, rows, batch.settings.micro_batch))
        )
    ]
    passed = differentiate(
        batch.model, batch.rollouts, combined, flat, batch.settings, lambda: None, batches=passes
    ).gradients
    squared = passed.squared_norms.double().cpu()
    director.measure(plan, passed.inner_products().cpu(), squared)
    step(batch, passed.combined)


UPDATES: dict[str, Callable[[Batch], None]] = {
    "plain": plain,
    "retained": retained,
    "rerun": rerun,
    "one_pass": one_pass,
}


def step(batch: Batch, gradients: list[Tensor]) -> None:
    """Clip the gradients and let the optimiser step."""
    for parameter, gradient in zip(batch.parameters, gradients, strict=True):
        parameter.grad = gradient.neg_().to(parameter.dtype)
    torch.nn.utils.clip_grad_norm_(batch.parameters, 1.0)
    batch.optimizer.step()
    batch.optimizer.zero_grad(set_to_none=True)


def _directed(batch: Batch, passes: Callable[[Tensor], list[Tensor]]) -> None:
    """Weights from the exact Gramian of K buffers, which the naive ways have anyway."""
    director = batch.director
    plan = director.decide(director.observe(batch.rewards))
    flat = plan.advantages.flatten(1)
    buffers = passes(flat)
    raw = torch.stack([(b.flatten(1) @ b.flatten(1).T).double() for b in buffers]).sum(0).cpu()
    director.measure(plan, raw, torch.zeros(flat.shape[1]))
    combined = torch.einsum("k,kbg->bg", plan.weights, plan.advantages)
    weights = plan.weights / advantages.batch_std(combined, batch.rewards)
    step(batch, [torch.tensordot(weights.to(b), b, dims=1) for b in buffers])


def _zeros(batch: Batch, count: int) -> list[Tensor]:
    return [torch.zeros(count, *p.shape, device=p.device) for p in batch.parameters]


def _each(batch: Batch, parts: Tensor, *, retain: bool) -> list[Tensor]:
    """The gradient of each row of `parts` `(K, N)` by autograd, summed over the micro-batches."""
    rollouts, settings = batch.rollouts, batch.settings
    buffers = _zeros(batch, len(parts))
    rows = torch.arange(parts.shape[1], device=rollouts.logprobs.device)
    tokens = rollouts.lengths.sum()
    for chosen in batches.micro_batches(rollouts, rows, settings.micro_batch):
        scores = score_tokens(batch.model, rollouts, chosen, settings.temperature)
        likelihoods = scores.logprobs.sum(1) / tokens
        for k, part in enumerate(parts.to(likelihoods)[:, chosen]):
            found = torch.autograd.grad(
                (part * likelihoods).sum(),
                batch.parameters,
                retain_graph=retain and k < len(parts) - 1,
            )
            for buffer, gradient in zip(buffers, found, strict=True):
                buffer[k] += gradient
    return buffers
