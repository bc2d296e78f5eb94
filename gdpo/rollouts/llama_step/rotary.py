"""Turning queries and keys by the angle of their position, and putting keys and values where they are kept."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .layout import Layout

Turn = tuple[Tensor, Tensor]


class Rotary(Protocol):
    """One kind of layer's angles."""

    def at(self, positions: Tensor) -> Turn:
        """Return what turns rows at these positions `(B, G)`."""
        ...

    def turn(self, qkv: Tensor, turn: Turn, kept: Tensor) -> Tensor:
        """Turn and scale the queries, turn the keys, and write keys and values to `kept`.

        Args:
            qkv: `(B, G, H + 2 KV, D)`; may be overwritten.
            turn: Result of `at`.
            kept: `(2, B, KV, G, D)`.

        Returns:
            The queries, `(B, KV, G, H / KV, D)`, contiguous.
        """
        ...


def choose_rotary(layout: Layout, kind: str, scale: float, length: int) -> Rotary:
    """Return the way for this model: one complex product where pairs of numbers lie side by side."""
    cos, sin = layout.angles(kind, length)
    if layout.head_order is not None:
        return _Complex(cos, sin, scale, layout.heads)
    return _Halves(cos, sin, scale, layout.heads)


class _Complex:
    """Each number of the first half of a head lies beside its partner in the second."""

    def __init__(self, cos: Tensor, sin: Tensor, scale: float, heads: int) -> None:
        half = cos.shape[-1] // 2
        angles = torch.complex(cos[:, :half].float(), sin[:, :half].float())
        self._queries, self._heads = angles * scale, heads
        self._kept = torch.stack([angles, torch.ones_like(angles)])  # values stay as they are

    def at(self, positions: Tensor) -> Turn:
        return self._queries[positions][:, None, :, None], self._kept[:, positions][:, :, None]

    def turn(self, qkv: Tensor, turn: Turn, kept: Tensor) -> Tensor:
        pairs, (count, size), groups = _pairs(qkv), qkv.shape[:2], kept.shape[2]
        queries = pairs[:, :, : self._heads].view(count, size, groups, -1, pairs.shape[-1])
        queries = queries.transpose(1, 2)
        turned = queries.new_empty(queries.shape)
        torch.mul(queries, turn[0], out=turned)
        others = pairs[:, :, self._heads :].view(count, size, 2, groups, -1)
        torch.mul(others.permute(2, 0, 3, 1, 4), turn[1], out=_pairs(kept))
        return torch.view_as_real(turned).flatten(-2)


class _Halves:
    """The partner of a number is half a head away, as models are stored."""

    def __init__(self, cos: Tensor, sin: Tensor, scale: float, heads: int) -> None:
        half = cos.shape[-1] // 2
        # The sine carries the sign of the half that is swapped in.
        self._cos, self._sin = cos, torch.cat([-sin[:, :half], sin[:, half:]], -1)
        self._scale, self._heads = scale, heads

    def at(self, positions: Tensor) -> Turn:
        return self._cos[positions][:, :, None], self._sin[positions][:, :, None]

    def turn(self, qkv: Tensor, turn: Turn, kept: Tensor) -> Tensor:
        heads, groups = self._heads, kept.shape[2]
        qk = qkv[:, :, : heads + groups]
        swapped = qk.unflatten(-1, (2, -1)).flip(3).flatten(3)
        qk = torch.addcmul(qk * turn[0], swapped, turn[1])
        kept[0] = qk[:, :, heads:].transpose(1, 2)
        kept[1] = qkv[:, :, heads + groups :].transpose(1, 2)
        queries = qk[:, :, :heads].unflatten(2, (groups, -1)).transpose(1, 2)
        return queries.mul(self._scale).contiguous()


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))
