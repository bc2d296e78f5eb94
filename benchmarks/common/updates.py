"""Makes the same directed update in four ways, on one model and one batch of completions.

Each way only takes gradients. All end with clipping and the optimiser's step, whose learning rate is 0 here: the
model stays what the completions were sampled from.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.common.batches import Batch
from benchmarks.common.natural_update import natural
from gdpo.objective import advantages
from gdpo.update import micro_batches
from gdpo.update.logprobs import score_tokens
from gdpo.update.passes import differentiate
from gdpo.update.reward_gradients import RewardGradients


def plain(batch: Batch) -> list[Tensor]:
    """Take the gradients of any trainer: one backward pass of the rewards' fixed-weight sum, by autograd alone."""
    parts = advantages.decoupled(batch.rewards)
    combined = parts.mean(0) / advantages.batch_std(parts.mean(0), batch.rewards)
    return [gradient[0] for gradient in _each(batch, combined.view(1, -1), retain=False)]


def retained(batch: Batch) -> list[Tensor]:
    """Make K backward passes on one retained graph, into K buffers."""
    return _directed(batch, lambda parts: _each(batch, parts, retain=True))


def rerun(batch: Batch) -> list[Tensor]:
    """Make K forward and backward passes, into K buffers."""

    def buffers_of(parts: Tensor) -> list[Tensor]:
        buffers = _zeros(batch, len(parts))
        for k, part in enumerate(parts):
            for buffer, found in zip(buffers, _each(batch, part[None], retain=False), strict=True):
                buffer[k] = found[0]
        return buffers

    return _directed(batch, buffers_of)


def by_library(batch: Batch, combined: Tensor, parts: Tensor) -> RewardGradients:
    """Take the gradients as the trainer does, but without sharing prompts.

    Every completion carries its own prompt, as in the other ways: what sharing saves is not counted here.

    Args:
        batch: Batch that the gradients are of.
        combined: Advantages that the step follows, `(N,)`.
        parts: Advantages of each reward, `(K, N)`.
    """
    rows = torch.arange(parts.shape[1])
    chosen = micro_batches.micro_batches(batch.rollouts, rows, batch.settings.micro_batch)
    whole = [micro_batches.Batch(tuple(chosen))]
    arguments = (batch.model, batch.rollouts, combined, parts, batch.settings, lambda: None)
    return differentiate(*arguments, batches=whole).gradients


def one_pass(
    batch: Batch,
    differentiated: Callable[[Batch, Tensor, Tensor], RewardGradients] = by_library,
) -> list[Tensor]:
    """Make our one backward pass, into one combined gradient and K sketches."""
    director = batch.director
    plan = director.decide(director.observe(batch.rewards))
    combined = torch.einsum("k,kbg->bg", plan.weights, plan.advantages)
    combined = (combined / advantages.batch_std(combined, batch.rewards)).flatten()
    found = differentiated(batch, combined, plan.advantages.flatten(1))
    squared = found.squared_norms.double().cpu()
    director.measure(plan, found.inner_products().cpu(), squared)
    return found.combined


WAYS: dict[str, Callable[[Batch], list[Tensor]]] = {
    "plain": plain,
    "retained": retained,
    "rerun": rerun,
    "one_pass": one_pass,
}


NATURAL = "natural"
UPDATES = (*WAYS, NATURAL)


def update(way: str, batch: Batch) -> None:
    """Make a whole update, one of `UPDATES`."""
    if way == NATURAL:
        natural(batch)
    else:
        step(batch, WAYS[way](batch))


def step(batch: Batch, gradients: list[Tensor]) -> None:
    """Clip the gradients and let the optimiser step."""
    for parameter, gradient in zip(batch.parameters, gradients, strict=True):
        parameter.grad = gradient.neg_().to(parameter.dtype)
    torch.nn.utils.clip_grad_norm_(batch.parameters, 1.0)
    batch.optimizer.step()
    batch.optimizer.zero_grad(set_to_none=True)


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Wall time of a piece of work, until the device has finished it."""
    begin = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def _directed(batch: Batch, buffers_of: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
    """Weigh the rewards by the exact Gramian of K buffers, which the naive ways have anyway."""
    director = batch.director
    plan = director.decide(director.observe(batch.rewards))
    flat = plan.advantages.flatten(1)
    buffers = buffers_of(flat)
    raw = torch.stack([(b.flatten(1) @ b.flatten(1).T).double() for b in buffers]).sum(0).cpu()
    director.measure(plan, raw, torch.zeros(flat.shape[1]))
    combined = torch.einsum("k,kbg->bg", plan.weights, plan.advantages)
    weights = plan.weights / advantages.batch_std(combined, batch.rewards)
    return [torch.tensordot(weights.to(b), b, dims=1) for b in buffers]


def _zeros(batch: Batch, count: int) -> list[Tensor]:
    return [torch.zeros(count, *p.shape, device=p.device) for p in batch.parameters]


def _each(batch: Batch, parts: Tensor, *, retain: bool) -> list[Tensor]:
    """Return the gradient of each row of `parts` `(K, N)` by autograd, summed over the micro-batches."""
    rollouts, settings = batch.rollouts, batch.settings
    buffers = _zeros(batch, len(parts))
    rows = torch.arange(parts.shape[1], device=rollouts.logprobs.device)
    tokens = rollouts.lengths.sum()
    for chosen in micro_batches.micro_batches(rollouts, rows, settings.micro_batch):
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
