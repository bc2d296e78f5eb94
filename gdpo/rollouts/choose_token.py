"""Choosing the next token: the temperature, what may be chosen, and the numbers that go with the choice."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Limits(NamedTuple):
    """Which tokens may be sampled. Each limit looks at the distribution at the temperature.

    Attributes:
        top_k: Only the `top_k` likeliest; 0 is all.
        top_p: Of those, the fewest likeliest whose share of their probability reaches `top_p`; 1 is all.
        min_p: Only tokens at least `min_p` times as likely as the likeliest; 0 is all.
    """

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


class Picks(NamedTuple):
    """The chosen tokens, their log-probability and the entropy of what they were drawn from, `(n,)` each.

    Both numbers, in nats, are of the full distribution at the temperature, whatever the limits.
    """

    tokens: Tensor
    logprobs: Tensor
    entropy: Tensor


NO_LIMITS = Limits()


def pick(logits: Tensor, temperature: float, uniforms: Tensor, limits: Limits = NO_LIMITS) -> Picks:
    """Pick one token a row by inverting the cumulative distribution at a random number.

    Args:
        logits: `(n, V)`.
        temperature: Divides them; 0 takes the likeliest token and reports the distribution at 1.
        uniforms: `(n,)` in [0, 1).
        limits: What may be chosen.
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
        cumulative = (probs if limits == NO_LIMITS else _limited(probs, limits)).cumsum(-1)
        # Scaling by the last entry makes rounding in the sum harmless: a token of probability 0 is never met.
        wanted = uniforms[:, None] * cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, wanted, right=True).clamp_(max=logits.shape[1] - 1)
    chosen = probs.gather(1, tokens).log_()  # (n, 1)
    # log Z - sum p * logit, with log Z from the chosen token: one exponential a token serves for everything.
    mean = torch.bmm(probs[:, None], logits[:, :, None])[:, 0]
    entropy = (logits.gather(1, tokens) - chosen - mean).clamp_(min=0)
    return Picks(tokens[:, 0], chosen[:, 0], entropy[:, 0])


def draw_uniforms(rows: int, length: int, seed: int) -> Tensor:
    """Random numbers in [0, 1) from a generator of their own, the same on every device."""
    return torch.rand(rows, length, generator=torch.Generator().manual_seed(seed))


def _limited(probs: Tensor, limits: Limits) -> Tensor:
    """The probabilities `(n, V)` with 0 for tokens beyond the limits; not normalised."""
    ordered, order = probs.sort(dim=-1, descending=True, stable=True)
    if limits.top_k:
        ordered[:, limits.top_k :] = 0.0
    if limits.top_p < 1:
        cumulative = ordered.cumsum(-1)
        # What lies before a token, not with it: the token that crosses the limit still counts.
        before = cumulative - ordered
        before[:, 0] = -1.0  # the likeliest always counts
        ordered = ordered.masked_fill(before >= limits.top_p * cumulative[:, -1:], 0.0)
    if limits.min_p:
        ordered = ordered.masked_fill(ordered < limits.min_p * ordered[:, :1], 0.0)
    return torch.zeros_like(probs).scatter_(1, order, ordered)
