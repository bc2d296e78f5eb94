"""The decode step written out for Llama-shaped models, with as few operations a token as torch allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..cache_decoder import Prefix
from .grouping import Grouping, regroup
from .layout import Block, Layout
from .own_cache import FixedCache, GrowingCache, OwnCache, Sight, Storage
from .recording import Recorder
from .rotary import Rotary, choose_rotary


class BlockDecoder:
    """Keys and values of the prompts and of the live rows, and the logits of the rows' next token.

    Attention looks at the prompt and at the row's own tokens in two parts: the prompt's keys and values lie
    there once for a group of rows. Rows stand in groups of equal size (`Grouping`).
    """

    def __init__(
        self,
        layout: Layout,
        prefix: Prefix,
        group_size: int,
        longest: int,
        poll: Callable[[], None],
        recorder: Recorder | None = None,
    ) -> None:
        self._layout, self._poll, self._recorder = layout, poll, recorder
        self._rotaries = {
            b.kind: choose_rotary(layout, b.kind, b.scale, longest) for b in layout.blocks
        }
        self._prompt = prefix.mask.shape[1]
        self._grouping = Grouping(len(prefix.mask), group_size)
        self._positions = prefix.mask.sum(1).repeat_interleave(group_size)
        self._bias = _bias(prefix, layout.kv_heads)
        order = layout.head_order
        self._prompts = [
            tuple(part.flatten(0, 1) for part in _ordered(prefix.stored(index), order))
            for index in range(len(layout.blocks))
        ]  # keys and values, (B * KV, P, D) each
        shape = (2, len(prefix.mask), layout.kv_heads, group_size, 0, layout.head_dim)
        keys = self._prompts[0][0]
        storage = Storage(keys, shape, len(layout.blocks), longest - self._prompt)
        self._own: OwnCache = FixedCache(storage) if recorder else GrowingCache(storage)
        self.logits = prefix.logits.repeat_interleave(group_size, 0)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        before, self.logits = self._grouping, self.logits[rows]
        self._grouping, slots = regroup(before, rows)
        groups = slots[:: self._grouping.size] // before.size
        self._positions = self._positions[slots]
        self._own.keep(slots, self._grouping)
        if self._recorder:
            self._recorder.forget()
        if groups.tolist() != list(range(before.count)):
            kept = [
                tuple(part.unflatten(0, (before.count, -1))[groups].flatten(0, 1) for part in pair)
                for pair in self._prompts
            ]
            self._prompts = kept
            if self._bias is not None:
                kv_heads = self._layout.kv_heads
                self._bias = self._bias.unflatten(0, (-1, kv_heads))[groups].flatten(0, 1)

    def advance(self, tokens: Tensor) -> None:
        """Append one token to each live row."""
        if self._own.make_room() and self._recorder:
            self._recorder.forget()
        run = self._recorder.run if self._recorder else lambda step, given: step(given)
        self.logits = run(self._step, tokens)
        self._own.move_on()
        self._positions += 1

    def agrees(self, model: Any, prefix: Prefix) -> bool:
        """Tell whether the model itself computes the same logits for one more token of each prompt.

        The token is forgotten here, but stays in the prefix's cache.
        """
        self._own.make_room()
        tokens = self.logits.argmax(-1)
        group_size = len(tokens) // len(prefix.mask)
        found = self._step(tokens)[::group_size].float()
        wanted = prefix.advance(model, tokens[::group_size, None]).float()
        # Half precision and quantised activations round differently for other shapes.
        share = 1e-4 if self._layout.exact else 5e-2
        size = wanted.clamp(-1e4, 1e4).abs().max().clamp(min=1.0)
        return bool((found - wanted).abs().max() <= share * size)

    def _step(self, tokens: Tensor) -> Tensor:
        layout, grouping = self._layout, self._grouping
        x = layout.embed(grouping.spread(tokens))
        if layout.embed_scale != 1.0:
            x = x * torch.tensor(layout.embed_scale, dtype=x.dtype)
        positions = self._positions.view(grouping.count, grouping.size)
        turns = {kind: rotary.at(positions) for kind, rotary in self._rotaries.items()}
        windows = {block.window for block in layout.blocks}
        sights = {w: self._own.sight(w, self._prompt, self._bias) for w in windows}
        for index, block in enumerate(layout.blocks):
            self._poll()
            seen = turns[block.kind], sights[block.window]
            attended = self._attend(block, index, block.before_attention(x), *seen)
            x = torch.add(x, attended, alpha=layout.residual_scale)
            x = torch.add(x, _feed_forward(block, x), alpha=layout.residual_scale)
        logits = layout.head(layout.norm(grouping.gather(x)))
        if layout.logit_scale != 1.0:
            logits = logits * layout.logit_scale
        if layout.logit_cap is not None:
            logits = torch.tanh(logits / layout.logit_cap) * layout.logit_cap
        return logits

    def _attend(
        self, block: Block, index: int, x: Tensor, turn: tuple[Tensor, Tensor], sight: Sight
    ) -> Tensor:
        layout, count, size = self._layout, self._grouping.count, self._grouping.size
        heads, groups, dim = layout.heads, layout.kv_heads, layout.head_dim
        qkv = block.qkv(x).view(count, size, heads + 2 * groups, dim)
        if block.heads_norm is not None:
            qk = qkv[:, :, : heads + groups]
            qk.copy_(block.heads_norm(qk))
        rotary: Rotary = self._rotaries[block.kind]
        queries = rotary.turn(qkv, turn, self._own.place(index))  # (B, KV, G, H / KV, D)
        keys, values = self._own.stored(index).flatten(1, 3)[:, :, sight.own].unbind(0)
        prompt_keys, prompt_values = (part[:, sight.prompt] for part in self._prompts[index])
        joint = queries.view(count * groups, -1, dim)
        single = queries.view(count * groups * size, -1, dim)
        shared = _scores(joint, prompt_keys, block.cap, sight.prompt_bias)
        scores = _scores(single, keys, block.cap, sight.own_bias)
        width = shared.shape[-1]
        scores = torch.cat([shared.view(*scores.shape[:2], width), scores], -1)
        weights = scores.softmax(-1, dtype=torch.float32).to(queries.dtype)
        mixed = torch.bmm(weights[..., :width].view(*joint.shape[:2], width), prompt_values)
        mixed = torch.baddbmm(mixed.view_as(single), weights[..., width:], values)
        mixed = mixed.view(count, groups, size, -1).transpose(1, 2).reshape(-1, heads * dim)
        attended = block.out(mixed)
        return attended if block.after_attention is None else block.after_attention(attended)


def _scores(queries: Tensor, keys: Tensor, cap: float | None, bias: Tensor | None = None) -> Tensor:
    if cap is None:
        keys = keys.transpose(1, 2)
        return torch.bmm(queries, keys) if bias is None else torch.baddbmm(bias, queries, keys)
    scores = torch.tanh(torch.bmm(queries, keys.transpose(1, 2)) / cap) * cap
    return scores if bias is None else scores + bias


def _feed_forward(block: Block, x: Tensor) -> Tensor:
    gate, up = block.gate_up(block.before_mlp(x)).chunk(2, -1)
    x = block.down(block.activation(gate).mul_(up))
    return x if block.after_mlp is None else block.after_mlp(x)


def _ordered(pair: tuple[Tensor, Tensor], order: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return keys and values, the keys with their numbers in the order of the queries'."""
    keys, values = pair
    return (keys if order is None else keys[..., order]), values


def _bias(prefix: Prefix, kv_heads: int) -> Tensor | None:
    """Return what is added to the prompts' scores, `(B * KV, 1, P)`: minus infinity at padding; None without padding."""
    if prefix.mask.all():
        return None
    padding = prefix.mask == 0
    bias = torch.zeros(padding.shape, dtype=prefix.stored(0)[0].dtype, device=padding.device)
    return bias.masked_fill(padding, -torch.inf).repeat_interleave(kv_heads, 0)[:, None]
