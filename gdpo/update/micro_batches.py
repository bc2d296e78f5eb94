"""Which completions pass through the model together, and whether their prompts are shared."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import MODEL_REFUSALS
from ..out_of_memory import is_out_of_memory
from ..policies.adapter import innermost
from ..policies.precision import has_int8_layers
from ..rollouts import Rollouts
from ..rollouts.cache_decoder import has_cache
from .logprobs import score_tokens
from .shared_prompts import SharedPrompts

logger = logging.getLogger(__name__)

# Sharing is two passes instead of one, and the Gramian then leaves most of the prompt out: only where it saves a
# good deal. On a CPU a quarter less positions is a sixth less time, half of them 0.4 less; with prompts shorter than
# this the passes themselves are what takes the time.
_SHORTEST_PROMPT = 32
_LEAST_SAVED = 0.25
# Mean difference of the two ways' log-probabilities, in nats per token: rounding in fp32, and in what is coarser.
_TOLERANCE, _COARSE_TOLERANCE = 1e-3, 0.05
# Rotary embeddings whose angles depend on the whole length: a cached key would have been turned by others.
_CHANGING_ROTARIES = {"dynamic", "longrope"}

# Whether sharing computes what the plain way computes, for each model.
_verdicts: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Batch:
    """Micro-batches, one after the other, over the same prompts.

    Attributes:
        parts: Rows of the rollouts, in micro-batches.
        owners: First row with the same prompt, for each row of the rollouts, -1 for those in other batches, `(N,)`.
            None: prompts are not shared.
    """

    parts: tuple[Tensor, ...]
    owners: Tensor | None = None


def micro_batches(rollouts: Rollouts, rows: Tensor, size: int) -> list[Tensor]:
    """Split `rows` into micro-batches of similar length, shortest first, by a budget of tokens.

    The budget is what `size` rows of the longest prompt and the longest completion take, padding included: memory
    goes by tokens, so that of short rows more pass together.
    """
    prompts, lengths = rollouts.prompt_mask.sum(1)[rows], rollouts.lengths[rows]
    order = (prompts + lengths).argsort(stable=True)
    widths = list(zip(prompts[order].tolist(), lengths[order].tolist(), strict=True))
    budget = size * (max(p for p, _ in widths) + max(n for _, n in widths))
    cuts, prompt, length = [len(widths)], 0, 0
    for start in reversed(range(len(widths))):
        prompt, length = max(prompt, widths[start][0]), max(length, widths[start][1])
        if (cuts[0] - start) * (prompt + length) > budget:
            cuts.insert(0, start + 1)
            prompt, length = widths[start]
    return list(rows[order].tensor_split(cuts[:-1]))


def plan(
    model: Any,
    rollouts: Rollouts,
    rows: Tensor,
    size: int,
    temperature: float,
    *,
    share: bool = True,
) -> list[Batch]:
    """Tell how to pass `rows`: with shared prompts where that saves positions and computes the same.

    Args:
        model: Compared on a micro-batch with shared prompts and without, once.
        rollouts: N completions.
        rows: Those to pass, `(n,)`.
        size: Number of the longest rows that fit into a micro-batch.
        temperature: Temperature of the sampling.
        share: Whether prompts may be shared.
    """
    plain = [Batch(tuple(micro_batches(rollouts, rows, size)))]
    if not share or rollouts.prompt_ids.shape[1] < _SHORTEST_PROMPT:
        return plain
    shared = list(_sharing(rollouts, rows, size))
    costs = [sum(positions(rollouts, batch) for batch in way) for way in (shared, plain)]
    pays = costs[0] <= (1 - _LEAST_SAVED) * costs[1]
    return shared if pays and _is_exact(model, rollouts, shared[-1], temperature) else plain


def positions(rollouts: Rollouts, batch: Batch) -> int:
    """Return tokens that pass through the model, padding included."""
    prompts, lengths = rollouts.prompt_mask.sum(1), rollouts.lengths
    total = sum(len(part) * int(lengths[part].max()) for part in batch.parts)
    if batch.owners is None:
        return total + sum(len(part) * int(prompts[part].max()) for part in batch.parts)
    leaders = batch.owners[batch.owners >= 0].unique()
    return total + len(leaders) * (int(prompts[leaders].max()) - 1)


def _sharing(rollouts: Rollouts, rows: Tensor, size: int) -> Iterator[Batch]:
    """Yield prompts of similar length together, and their completions by length.

    At most half as many prompts as completions in a micro-batch: their activations are kept while the completions
    pass, and should not need more memory than the plain way.
    """
    mask = rollouts.prompt_mask[rows]
    ids = rollouts.prompt_ids[rows].masked_fill(mask == 0, -1)
    distinct, owners = ids.unique(dim=0, return_inverse=True)
    firsts = rows.new_full((len(distinct),), len(rollouts.lengths))
    firsts = firsts.scatter_reduce(0, owners, rows, "amin")
    order = rollouts.prompt_mask.sum(1)[firsts].argsort(stable=True)
    for chosen in order.split(max(1, size // 2)):
        inside = torch.isin(owners, chosen)
        members = rows[inside]
        known = torch.full_like(rollouts.lengths, -1)
        known[members] = firsts[owners[inside]]
        yield Batch(tuple(micro_batches(rollouts, members, size)), known)


@torch.no_grad()
def _is_exact(model: Any, rollouts: Rollouts, batch: Batch, temperature: float) -> bool:
    """Tell whether this model computes the same on a cache; found by trying, once, and told once if not."""
    inner = innermost(model)
    if inner not in _verdicts:
        _verdicts[inner] = _agrees(model, rollouts, batch, temperature)
        if not _verdicts[inner]:
            logger.info(
                "%r models compute something else on a cache, so prompts are not shared in the update, which is "
                "slower.",
                inner.config.model_type,
            )
    return _verdicts[inner]


def _agrees(model: Any, rollouts: Rollouts, batch: Batch, temperature: float) -> bool:
    inner = innermost(model)
    if batch.owners is None or not has_cache(model):
        return False
    if not _rotaries(inner).isdisjoint(_CHANGING_ROTARIES):
        return False
    if inner.device.type == "meta":  # nothing to compare
        return True
    rows = batch.parts[-1]  # the longest
    wanted = score_tokens(model, rollouts, rows, temperature).logprobs
    try:
        found = SharedPrompts(model, rollouts, batch.owners).score(rows, temperature).logprobs
    except MODEL_REFUSALS as error:
        if is_out_of_memory(error):
            raise
        logger.debug("Sharing prompts failed: %s", error)
        return False
    coarse = inner.dtype != torch.float32 or has_int8_layers(inner)
    gap = float((found - wanted).abs().sum() / rollouts.lengths[rows].sum())
    return gap <= (_COARSE_TOLERANCE if coarse else _TOLERANCE)


def _rotaries(inner: Any) -> set[str]:
    """Return kinds of the model's rotary embeddings; some have one for each kind of layer."""
    found: set[str] = set()
    for module in inner.modules():
        kind = getattr(module, "rope_type", ())
        found |= set(kind.values()) if isinstance(kind, dict) else {kind} if kind else set()
    return found
