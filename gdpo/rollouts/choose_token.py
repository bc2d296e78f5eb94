"""Choosing the next token: the temperature, the draw, and the numbers that go with the choice."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Vocabularies from here on are summed in blocks: the cumulative sum of all takes as long as the softmax.
_LARGE, _BLOCK = 2**16, 512


class Picks(NamedTuple):
    """The chosen tokens, their log-probability and the entropy of what they were drawn from, `(n,)` each.

    Both numbers are in nats, at the temperature.
    """

    tokens: Tensor
    logprobs: Tensor
    entropy: Tensor


def pick(logits: Tensor, temperature: float, uniforms: Tensor) -> Picks:
    """Pick one token a row by inverting the cumulative distribution at a random number.

    Args:
        logits: `(n, V)`.
        temperature: Divides them; 0 takes the likeliest token and reports the distribution at 1.
        uniforms: `(n,)` in [0, 1).
    """
    logits = logits.float()
    if temperature not in {0, 1}:
        logits = logits / temperature
    probs = logits.softmax(-1)
    tokens = probs.argmax(-1, keepdim=True) if temperature == 0 else _invert(probs, uniforms)
    chosen = probs.gather(1, tokens).log_()  # (n, 1)
    # log Z - sum p * logit, with log Z from the chosen token: one exponential a token serves for everything.
    mean = _mean(probs, logits)
    if mean.isnan().any():
        # A token of probability 0 adds nothing to the entropy; minus infinity made it NaN. NaN stays NaN.
        mean = _mean(probs, logits.clamp(min=-1e30))
    entropy = (logits.gather(1, tokens) - chosen - mean).clamp_(min=0)
    return Picks(tokens[:, 0], chosen[:, 0], entropy[:, 0])


def _mean(probs: Tensor, logits: Tensor) -> Tensor:
    """Return sum p * logit, `(n, 1)`, without a product of the vocabulary's size."""
    return torch.bmm(probs[:, None], logits[:, :, None])[:, 0]


def _invert(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Return the tokens `(n, 1)` at which the cumulative sums of `probs` `(n, V)` exceed the random numbers.

    Of a large vocabulary only the sums of blocks are made, and then those inside one block.
    """
    count = probs.shape[1]
    if count < _LARGE:
        tokens, _ = _invert_sums(probs.cumsum(-1), uniforms[:, None])
        return tokens.clamp_(max=count - 1)
    whole = count - count % _BLOCK
    blocks = probs[:, :whole].unflatten(1, (-1, _BLOCK)).sum(-1)
    sums = torch.cat([blocks, probs[:, whole:].sum(-1, keepdim=True)], 1)
    ends = sums.cumsum(-1)
    block, wanted = _invert_sums(ends, uniforms[:, None])
    block.clamp_(max=sums.shape[1] - 1)
    columns = block * _BLOCK + torch.arange(_BLOCK, device=probs.device)
    inside = probs.gather(1, columns.clamp(max=count - 1)).masked_fill(columns >= count, 0.0)
    share = (wanted - ends.gather(1, block)) / sums.gather(1, block) + 1
    # Both sums are rounded: below 1, so that it stays in the block and on a token that has a probability.
    token, _ = _invert_sums(inside.cumsum(-1), share.clamp(0, 1 - 2**-24))
    return (block * _BLOCK + token).clamp_(max=count - 1)


def _invert_sums(cumulative: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places `(n, 1)` at which cumulative sums `(n, m)` exceed shares `(n, 1)` of the last, and these shares.

    Scaling by the last entry makes rounding in the sum harmless: a token of probability 0 is never met.
    """
    wanted = shares * cumulative[:, -1:]
    return torch.searchsorted(cumulative, wanted, right=True), wanted


def draw_uniforms(rows: int, length: int, seed: int) -> Tensor:
    """Return random numbers in [0, 1) from a generator of their own, the same on every device."""
    return torch.rand(rows, length, generator=torch.Generator().manual_seed(seed))
