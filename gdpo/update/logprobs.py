"""Log-probabilities of the sampled tokens, straight from hidden states, in chunks.

The logits `(N, T, V)` are what exhausts memory in reinforcement learning, not the weights. Only one chunk's exist
at a time: what the backward pass needs of them is computed at once, or, for a head that is itself trained, the logits
are made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..policies.adapter import innermost
from ..policies.compat import disable_checkpointing, enable_checkpointing
from ..rollouts import Rollouts

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
    hidden = inner.get_decoder()(
        input_ids=ids, attention_mask=attention, position_ids=positions, use_cache=False
    )[0]
    # The state before each completion token predicts it.
    return read_out(inner, hidden[:, -length - 1 : -1], targets, mask, temperature)


def read_out(
    inner: Any, hidden: Tensor, targets: Tensor, mask: Tensor, temperature: float
) -> TokenScores:
    """Return scores `(n, T)` of the tokens `targets` from the states that predict them, `(n, T, d)`; 0 where masked."""
    head = _Head(inner, temperature or 1.0)
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


class _Head:
    """Hidden states `(m, d)` to log-probability and entropy `(m,)`, with the model's own logit scaling."""

    def __init__(self, inner: Any, temperature: float) -> None:
        self._project = inner.get_output_embeddings()
        config = inner.config.get_text_config()
        self._scale = getattr(config, "logit_scale", 1.0) or 1.0  # Cohere
        self._scale /= getattr(config, "logits_scaling", 1.0) or 1.0  # Granite
        self._cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
        self._temperature = temperature
        self.vocabulary = self._project.weight.shape[0]
        self.is_trained = any(p.requires_grad for p in self._project.parameters())

    def __call__(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._project(hidden)
        # Half precision is too coarse for a sum over the vocabulary; float64 stays what it is.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) * self._scale
        if self._cap is not None:
            logits = self._cap * torch.tanh(logits / self._cap)
        logprobs = (logits / self._temperature).log_softmax(-1)
        entropy = -(logprobs.detach().exp() * logprobs.detach()).sum(-1)
        return logprobs.gather(1, targets[:, None]).squeeze(1), entropy


def _in_chunks(head: _Head, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    worth = max(_CHUNK_TOKENS, _LEAST_ELEMENTS // head.vocabulary)
    size = max(1, min(worth, _CHUNK_ELEMENTS // head.vocabulary))
    if len(targets) <= size:
        return head(hidden, targets)
    if torch.is_grad_enabled() and not head.is_trained:
        return _Chunks.apply(head, hidden, targets, size)
    parts = []
    for states, wanted in zip(hidden.split(size), targets.split(size), strict=True):
        if torch.is_grad_enabled():
            parts.append(checkpoint(head, states, wanted, use_reentrant=False))
        else:
            parts.append(head(states, wanted))
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


class _Chunks(torch.autograd.Function):
    """A frozen head, chunk by chunk, with the gradients for the hidden states taken while the logits are there.

    A token's log-probability depends on its own hidden state alone, so one gradient a token, `(m, d)`, is all
    that the way back needs: nothing is computed twice, and no logits are kept.
    """

    @staticmethod
    def forward(
        ctx: Any, head: _Head, hidden: Tensor, targets: Tensor, size: int
    ) -> tuple[Tensor, Tensor]:
        parts = []
        for states, wanted in zip(hidden.split(size), targets.split(size), strict=True):
            with torch.enable_grad():
                leaf = states.detach().requires_grad_()
                logprobs, entropy = head(leaf, wanted)
                (slope,) = torch.autograd.grad(logprobs.sum(), leaf)
            parts.append((logprobs.detach(), entropy, slope))
        logprobs, entropies, slopes = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(slopes)
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  one gradient an output
        ctx: Any, gradients: Tensor, _entropies: Tensor
    ) -> tuple[None, Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return None, gradients[:, None].to(slopes) * slopes, None, None
