"""The decode step written out for Llama-shaped models, with as few operations a token as torch allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .layout import Block, Layout
from .passes import Prefix

# The cache grows by this many tokens at a time.
_BUCKET = 128


class BlockDecoder:
    """Keys and values of the live rows, and the logits of their next token."""

    def __init__(
        self,
        layout: Layout,
        prefix: Prefix,
        group_size: int,
        longest: int,
        poll: Callable[[], None],
    ) -> None:
        self._layout, self._longest, self._poll = layout, longest, poll
        self._angles = {b.kind: _signed(*layout.angles(b.kind, longest)) for b in layout.blocks}
        self._used = self._capacity = prefix.mask.shape[1]
        self._positions = prefix.mask.sum(1).repeat_interleave(group_size)
        self._bias = _bias(prefix, group_size, layout.kv_heads)
        self._keys, self._values = [], []
        for index in range(len(layout.blocks)):
            keys, values = prefix.stored(index)
            self._keys.append(keys.repeat_interleave(group_size, 0))
            self._values.append(values.repeat_interleave(group_size, 0))
        self.logits = prefix.logits.repeat_interleave(group_size, 0)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        for store in (self._keys, self._values):
            for index, tensor in enumerate(store):
                store[index] = tensor[rows]
        if self._bias is not None:
            self._bias = self._bias[rows]
        self._positions, self.logits = self._positions[rows], self.logits[rows]

    def advance(self, tokens: Tensor) -> None:
        """Append one token to each live row."""
        self.logits = self._step(tokens)
        self._used += 1
        self._positions = self._positions + 1

    def agrees(self, model: Any, prefix: Prefix) -> bool:
        """Whether the model itself computes the same logits for one more token of each prompt.

        The token is forgotten here, but stays in the prefix's cache.
        """
        tokens = self.logits.argmax(-1)
        group_size = len(tokens) // len(prefix.mask)
        found = self._step(tokens)[::group_size].float()
        wanted = prefix.advance(model, tokens[::group_size, None]).float()
        # Half precision and quantised activations round differently for other shapes.
        share = 1e-4 if self._layout.exact else 5e-2
        size = wanted.clamp(-1e4, 1e4).abs().max().clamp(min=1.0)
        return bool((found - wanted).abs().max() <= share * size)

    def _step(self, tokens: Tensor) -> Tensor:
        layout = self._layout
        if self._used == self._capacity:
            self._grow()
        x = layout.embed(tokens)
        if layout.embed_scale != 1.0:
            x = x * torch.tensor(layout.embed_scale, dtype=x.dtype)
        turns = {
            kind: (cos[self._positions], sin[self._positions])
            for kind, (cos, sin) in self._angles.items()
        }
        for index, block in enumerate(layout.blocks):
            self._poll()
            attended = self._attend(block, index, block.before_attention(x), turns[block.kind])
            x = torch.add(x, attended, alpha=layout.residual_scale)
            x = torch.add(x, _feed_forward(block, x), alpha=layout.residual_scale)
        logits = layout.head(layout.norm(x))
        if layout.logit_scale != 1.0:
            logits = logits * layout.logit_scale
        if layout.logit_cap is not None:
            logits = torch.tanh(logits / layout.logit_cap) * layout.logit_cap
        return logits

    def _attend(self, block: Block, index: int, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        layout, n = self._layout, len(x)
        heads, groups, dim = layout.heads, layout.kv_heads, layout.head_dim
        qkv = block.qkv(x).view(n, heads + 2 * groups, dim)
        qk = qkv[:, : heads + groups]
        if block.heads_norm is not None:
            qk = block.heads_norm(qk)
        swapped = qk.unflatten(-1, (2, dim // 2)).flip(2).flatten(2)
        qk = torch.addcmul(qk * turn[0], swapped, turn[1])
        keys, values = self._keys[index], self._values[index]
        keys[:, :, self._used] = qk[:, heads:]
        values[:, :, self._used] = qkv[:, heads + groups :]
        end = self._used + 1
        begin = max(0, end - block.window) if block.window else 0
        queries = qk[:, :heads].reshape(n * groups, heads // groups, dim)
        weights = self._weights(block, queries, keys.flatten(0, 1)[:, begin:end], begin, end)
        mixed = torch.bmm(weights, values.flatten(0, 1)[:, begin:end])
        attended = block.out(mixed.view(n, heads * dim))
        return attended if block.after_attention is None else block.after_attention(attended)

    def _weights(self, block: Block, queries: Tensor, keys: Tensor, begin: int, end: int) -> Tensor:
        """Attention weights `(n * KV, H / KV, end - begin)`."""
        bias = None if self._bias is None else self._bias[..., begin:end].flatten(0, 1)
        if block.cap is None and bias is not None:
            scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=block.scale)
        else:
            scores = torch.bmm(queries * block.scale, keys.transpose(1, 2))
            if block.cap is not None:
                scores = torch.tanh(scores / block.cap) * block.cap
            if bias is not None:
                scores = scores + bias
        return scores.softmax(-1, dtype=torch.float32).to(queries.dtype)

    def _grow(self) -> None:
        """Make room for another bucket of tokens, or for the last ones."""
        more = min(_BUCKET, self._longest - self._used)
        self._capacity += more
        for store in (self._keys, self._values):
            for index, tensor in enumerate(store):
                store[index] = torch.nn.functional.pad(tensor, (0, 0, 0, more))
        if self._bias is not None:
            self._bias = torch.nn.functional.pad(self._bias, (0, more))


def _feed_forward(block: Block, x: Tensor) -> Tensor:
    gate, up = block.gate_up(block.before_mlp(x)).chunk(2, -1)
    x = block.down(block.activation(gate).mul_(up))
    return x if block.after_mlp is None else block.after_mlp(x)


def _signed(cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Tables `(length, 1, D)`; the sine carries the sign of the half that is swapped in."""
    half = sin.shape[-1] // 2
    return cos[:, None], torch.cat([-sin[:, :half], sin[:, half:]], -1)[:, None]


def _bias(prefix: Prefix, group_size: int, kv_heads: int) -> Tensor | None:
    """What is added to the scores, `(N, KV, 1, P)`: minus infinity at padding; None without padding."""
    if prefix.mask.all():
        return None
    padding = prefix.mask == 0
    bias = torch.zeros(padding.shape, dtype=prefix.logits.dtype, device=padding.device)
    bias = bias.masked_fill(padding, -torch.inf).repeat_interleave(group_size, 0)
    return bias[:, None, None].repeat(1, kv_heads, 1, 1)
