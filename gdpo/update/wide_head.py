"""Log-probabilities under a frozen head with a large vocabulary, some rows of the head after the other.

Every token meets the same rows at once, so that they are read once and the logits of one block stay in the processor's
cache. Sums over the vocabulary are kept relative to the largest logit so far and scaled when a larger one comes, as
FlashAttention does over keys; with them goes the sum of the head's rows that is each token's gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Logits made at a time, and tokens that meet a block: more tokens would make blocks too narrow for a fast product.
_BLOCK_ELEMENTS, _MOST_TOKENS = 2**21, 2048


class Scan(NamedTuple):
    """What a pass over the vocabulary gives for m tokens.

    Attributes:
        logprobs: Log-probability of the target, `(m,)`.
        entropy: In nats, `(m,)`.
        slopes: Gradient of each token's log-probability for its hidden state, `(m, d)`; None where not asked for.
    """

    logprobs: Tensor
    entropy: Tensor
    slopes: Tensor | None


def can_scan(head: Any) -> bool:
    """Tell whether the head is a plain linear layer that is not trained, whose rows can be taken apart."""
    return type(head.project) is torch.nn.Linear and not head.is_trained


@torch.no_grad()
def scan(head: Any, hidden: Tensor, targets: Tensor, *, sloped: bool) -> Scan:
    """Score the tokens `targets` `(m,)` from the states before them, `(m, d)`, with slopes where `sloped`."""
    parts = []
    pairs = zip(hidden.split(_MOST_TOKENS), targets.split(_MOST_TOKENS), strict=True)
    for states, wanted in pairs:
        sums = _Sums(head, states, wanted, sloped)
        size = max(1, _BLOCK_ELEMENTS // len(states))
        for begin in range(0, head.vocabulary, size):
            sums.add(begin, begin + size)
        parts.append(sums.finish())
    logprobs, entropy, slopes = zip(*parts, strict=True)
    return Scan(torch.cat(logprobs), torch.cat(entropy), torch.cat(slopes) if sloped else None)


class _Sums:
    """Sums over the vocabulary as far as it has been seen, `(m, 1)` each, relative to exp(top).

    The target is left out of them: 1 - p of a likely one would be lost in a sum that holds p.
    """

    def __init__(self, head: Any, hidden: Tensor, targets: Tensor, sloped: bool) -> None:
        self._head, self._hidden, self._targets = head, hidden, targets[:, None]
        kind = torch.promote_types(hidden.dtype, torch.float32)
        self._top = hidden.new_full(self._targets.shape, -torch.inf, dtype=kind)
        self._chosen = torch.zeros_like(self._top)  # logit of the target
        self._masses = torch.zeros_like(self._top)  # of exp(logit)
        self._logits = torch.zeros_like(self._top)  # of exp(logit) * logit
        self._pull = hidden.new_zeros(hidden.shape, dtype=kind) if sloped else None

    def add(self, begin: int, end: int) -> None:
        """Add the tokens from `begin` to before `end`."""
        weight, bias = self._head.project.weight[begin:end], self._head.project.bias
        bias = None if bias is None else bias[begin:end]
        logits = self._head.scaled(functional.linear(self._hidden, weight, bias))
        places = self._targets - begin
        here = (places >= 0) & (places < len(weight))
        places = places.clamp(0, len(weight) - 1)
        self._chosen = torch.where(here, logits.gather(1, places), self._chosen)
        before, self._top = self._top, torch.maximum(self._top, logits.amax(1, keepdim=True))
        masses = (logits - self._top).exp_()
        masses.scatter_(1, places, masses.gather(1, places).masked_fill(here, 0.0))
        shrink = (before - self._top).exp_()
        self._masses = self._masses * shrink + masses.sum(1, keepdim=True)
        self._logits = self._logits * shrink + torch.linalg.vecdot(masses, logits)[:, None]
        if self._pull is not None:
            if self._head.cap is not None:
                masses *= self._head.cap_slope(logits)
            self._pull.mul_(shrink).add_(masses.to(weight.dtype) @ weight)

    def finish(self) -> Scan:
        """Return the scores."""
        own = (self._chosen - self._top).exp_()
        whole = own + self._masses
        total = self._top + whole.log()
        entropy = total - (self._logits + own * self._chosen) / whole
        slopes = None
        if self._pull is not None:
            pushed = self._masses * self._head.cap_slope(self._chosen)
            slopes = pushed * self._head.project.weight[self._targets[:, 0]] - self._pull
            slopes *= self._head.slope / whole
        return Scan((self._chosen - total)[:, 0], entropy[:, 0], slopes)
