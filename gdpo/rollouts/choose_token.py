"""Choosing the next token: the temperature, the draw, and the numbers that go with the choice."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


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
    # A token of probability 0 adds nothing to the entropy; minus infinity would make it NaN. NaN stays NaN.
    logits = logits.clamp(min=-1e30)
    probs = logits.softmax(-1)
    if temperature == 0:
        tokens = probs.argmax(-1, keepdim=True)
    else:
        cumulative = probs.cumsum(-1)
        # Scaling by the last entry makes rounding in the sum harmless: a token of probability 0 is never met.
        wanted = uniforms[:, None] * cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, wanted, right=True).clamp_(max=logits.shape[1] - 1)
    chosen = probs.gather(1, tokens).log_()  # (n, 1)
    # log Z - sum p * logit, with log Z from the chosen token: one exponential a token serves for everything.
    mean = torch.bmm(probs[:, None], logits[:, :, None])[:, 0]
    entropy = (logits.gather(1, tokens) - chosen - mean).clamp_(min=0)
    return Picks(tokens[:, 0], chosen[:, 0], entropy[:, 0])


def draw_uniforms(rows: int, length: int, seed: int) -> Tensor:
    """Return random numbers in [0, 1) from a generator of their own, the same on every device."""
    return torch.rand(rows, length, generator=torch.Generator().manual_seed(seed))
