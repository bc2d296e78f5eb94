"""Log-probabilities of the sampled tokens, straight from hidden states, in chunks.

The logits `(N, T, V)` are what exhausts memory in reinforcement learning, not the weights. Only one chunk's exist
at a time: what the backward pass needs of them is computed at once, or, for a head that is itself trained, the logits
are made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..policies.adapter import decoder_of, innermost
from ..policies.compat import disable_checkpointing, enable_checkpointing
from ..rollouts import Rollouts
from .wide_head import can_scan, scan

# Logits made at a time: of so many tokens, as more take memory and save no time; but 4 MiB in fp32 are worth no
# second chunk, and more than 32 MiB are not made.
_CHUNK_TOKENS = 512
_LEAST_ELEMENTS, _CHUNK_ELEMENTS = 2**20, 8 * 2**20


@dataclass(frozen=True)
class TokenScores:
    """Log-probability of each completion token and the entropy at its position, both `(n, T)`."""

    logprobs: Tensor
    entropy: Tensor


def score_tokens(model: Any, rollouts: Rollouts, rows: Tensor, temperature: float) -> TokenScores:
    """Score the completions of `rows` under the model; differentiable in what the model trains.

    Args:
        model: The model, with its adapter on or off.
        rollouts: Rollouts that the rows come from.
        rows: `(n,)` indices into the rollouts.
        temperature: That of the sampling: the policy is the distribution that was sampled from.

    Returns:
        Scores of shape `(n, T')`, T' being the longest completion of these rows; 0 where masked.
    """
    prompt_mask, mask = rollouts.prompt_mask[rows], rollouts.completion_mask[rows]
    start = int(
        prompt_mask.shape[1] - prompt_mask.sum(1).max()
    )  # columns that are padding in all rows
    length = int(mask.sum(1).max())
    mask, targets = mask[:, :length], rollouts.completion_ids[rows, :length]
    ids = torch.cat([rollouts.prompt_ids[rows, start:], targets], 1)
    attention = torch.cat([prompt_mask[:, start:], mask.to(prompt_mask.dtype)], 1)
    positions = (attention.cumsum(1) - 1).clamp(min=0)

    inner = innermost(model)
    hidden = decoder_of(inner)(
        input_ids=ids, attention_mask=attention, position_ids=positions, use_cache=False
    )[0]
    # The state before each completion token predicts it.
    return read_out(inner, hidden[:, -length - 1 : -1], targets, mask, temperature)


def read_out(
    inner: Any, hidden: Tensor, targets: Tensor, mask: Tensor, temperature: float
) -> TokenScores:
    """Return scores `(n, T)` of the tokens `targets` from the states that predict them, `(n, T, d)`; 0 where masked."""
    head = Head(inner, temperature or 1.0)
    logprobs, entropy = _in_chunks(head, hidden[mask], targets[mask])
    empty = logprobs.new_zeros(mask.shape)
    return TokenScores(empty.masked_scatter(mask, logprobs), empty.masked_scatter(mask, entropy))


@contextmanager
def checkpointing(model: Any, enabled: bool) -> Iterator[None]:
    """Activation checkpointing inside the block, without putting dropout into training mode."""
    if not enabled:
        yield
        return
    inner = innermost(model)
    enable_checkpointing(inner)
    # It checkpoints in training mode only; the flag of the layer itself is what it looks at.
    layers = [m for m in inner.modules() if hasattr(m, "gradient_checkpointing")]
    try:
        for layer in layers:
            layer.training = True
        yield
    finally:
        for layer in layers:
            layer.training = False
        disable_checkpointing(inner)


class Head:
    """Hidden states `(m, d)` to log-probability and entropy `(m,)`, with the model's own logit scaling.

    Attributes:
        project, vocabulary: The output layer, and the number V of its outputs.
        cap: What the model caps its logits by; None: by nothing.
        is_trained: Whether the output layer is itself trained.
    """

    def __init__(self, inner: Any, temperature: float) -> None:
        self.project = inner.get_output_embeddings()
        config = inner.config.get_text_config()
        self._scale = getattr(config, "logit_scale", 1.0) or 1.0  # Cohere
        self._scale /= getattr(config, "logits_scaling", 1.0) or 1.0  # Granite
        self.cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
        self._temperature = temperature
        self.vocabulary = self.project.weight.shape[0]
        self.is_trained = any(p.requires_grad for p in self.project.parameters())

    def __call__(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probability and entropy of the targets `(m,)` after hidden states `(m, d)`."""
        logprobs = self.scaled(self.project(hidden)).log_softmax(-1)
        entropy = -(logprobs.detach().exp() * logprobs.detach()).sum(-1)
        return logprobs.gather(1, targets[:, None]).squeeze(1), entropy

    def scaled(self, logits: Tensor) -> Tensor:
        """Return what the softmax is taken of, from the outputs of the layer."""
        # Half precision is too coarse for a sum over the vocabulary; float64 stays what it is.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self._scale != 1:  # a product of the logits' size, as below
            logits = logits * self._scale
        if self.cap is not None:
            logits = self.cap * torch.tanh(logits / self.cap)
        return logits if self._temperature == 1 else logits / self._temperature

    @property
    def slope(self) -> float:
        """Return the derivative of `scaled`, apart from the cap's."""
        return self._scale / self._temperature

    def cap_slope(self, logits: Tensor) -> Tensor | float:
        """Return the derivative of the cap where `scaled` gave `logits`."""
        return 1.0 if self.cap is None else 1.0 - (logits * self._temperature / self.cap).square()


def _in_chunks(head: Head, hidden: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    worth = max(_CHUNK_TOKENS, _LEAST_ELEMENTS // head.vocabulary)
    size = max(1, min(worth, _CHUNK_ELEMENTS // head.vocabulary))
    if len(targets) <= size:
        return head(hidden, targets)
    scanned = size < _CHUNK_TOKENS and can_scan(head)  # so few tokens at a time are a slow product
    if not torch.is_grad_enabled():
        if scanned:
            return scan(head, hidden, targets, sloped=False)[:2]
        return _joined(head(*part) for part in _split(hidden, targets, size))
    if head.is_trained:
        parts = _split(hidden, targets, size)
        return _joined(checkpoint(head, *part, use_reentrant=False) for part in parts)
    way = partial(scan, sloped=True) if scanned else partial(_sloped, size=size)
    return _Frozen.apply(partial(way, head), hidden, targets)


def _split(hidden: Tensor, targets: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(hidden.split(size), targets.split(size), strict=True)


def _joined(parts: Iterable[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def _sloped(head: Head, hidden: Tensor, targets: Tensor, size: int) -> tuple[Tensor, ...]:
    """Return log-probabilities, entropies and slopes, chunk by chunk of the tokens."""
    parts = []
    for states, wanted in _split(hidden, targets, size):
        with torch.enable_grad():
            leaf = states.detach().requires_grad_()
            logprobs, entropy = head(leaf, wanted)
            (slope,) = torch.autograd.grad(logprobs.sum(), leaf)
        parts.append((logprobs.detach(), entropy, slope))
    return _joined(parts)


class _Frozen(torch.autograd.Function):
    """A head that is not trained, with the gradients for the hidden states taken while the logits are there.

    A token's log-probability depends on its own hidden state alone, so one gradient a token, `(m, d)`, is all
    that the way back needs: nothing is computed twice, and no logits are kept.
    """

    @staticmethod
    def forward(ctx: Any, way: Any, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logprobs, entropies, slopes = way(hidden, targets)
        ctx.save_for_backward(slopes)
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  one gradient an output
        ctx: Any, gradients: Tensor, _entropies: Tensor
    ) -> tuple[None, Tensor, None]:
        (slopes,) = ctx.saved_tensors
        return None, gradients[:, None].to(slopes) * slopes, None
