"""Keys and values of the rows' own tokens, and what of the prompts and of them a layer sees."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .grouping import Grouping


class Sight(NamedTuple):
    """What a layer sees: columns of the prompt and of the row's own tokens, and what is added to their scores.

    The biases, where there are any, can be expanded to `(B * KV, 1, P')` and to `(T',)`.
    """

    prompt: slice
    own: slice
    prompt_bias: Tensor | None
    own_bias: Tensor | None


class OwnCache:
    """Keys and values, a tensor `(2, B, KV, G, T, D)` a layer; T grows as tokens come."""

    # Room is made for so many tokens, or for this share of what there is. A larger gap between the rows breaks the
    # stream in which processors read ahead: attention then takes twice the time.
    _BUCKET, _SHARE = 8, 0.125

    def __init__(self, like: Tensor, shape: tuple[int, ...], layers: int, longest: int) -> None:
        """Nothing yet.

        Args:
            like: A tensor of the same kind.
            shape: `(2, B, KV, G, 0, D)`.
            layers: Number of layers.
            longest: Tokens that may come.
        """
        self._layers = [like.new_empty(shape) for _ in range(layers)]
        self._longest = longest
        self._used = self._capacity = 0

    def make_room(self) -> bool:
        """See to it that one more token can come; whether the tensors are others now."""
        if self._used < self._capacity:
            return False
        more = max(self._BUCKET, int(self._used * self._SHARE))
        self._capacity = min(self._used + more, self._longest)
        for index, own in enumerate(self._layers):
            wider = own.new_zeros(*own.shape[:4], self._capacity, own.shape[5])
            wider[..., : self._used, :] = own[..., : self._used, :]
            self._layers[index] = wider
        return True

    def move_on(self) -> None:
        """The token that was placed stays."""
        self._used += 1

    def keep(self, slots: Tensor, grouping: Grouping) -> None:
        """Go on with these slots, in other groups."""
        for index, own in enumerate(self._layers):
            rows = own.transpose(2, 3).flatten(1, 2)[:, slots]
            rows = rows.unflatten(1, (grouping.count, grouping.size))
            self._layers[index] = rows.transpose(2, 3).contiguous()

    def sight(self, window: int | None, prompt: int, padding: Tensor | None) -> Sight:
        """What a layer sees from the token that comes now.

        Args:
            window: Tokens that it sees at most, itself among them; None is all.
            prompt: P, the columns of the prompts.
            padding: Minus infinity at the prompts' padding, `(B * KV, 1, P)`, or None.
        """
        end = self._used + 1
        begin = max(0, prompt + end - window) if window else 0
        bias = padding if padding is None else padding[..., begin:]
        return Sight(slice(begin, None), slice(max(0, begin - prompt), end), bias, None)

    def place(self, layer: int) -> Tensor:
        """Where the token's keys and values are to be put, `(2, B, KV, G, D)`."""
        return self._layers[layer][..., self._used, :]

    def stored(self, layer: int) -> Tensor:
        """All there is, `(2, B, KV, G, T, D)`, once the token's keys and values are placed."""
        return self._layers[layer]


class FixedCache(OwnCache):
    """Shapes and places stay as they are until room is made or rows leave, so that a step can be recorded.

    A layer sees all columns, with minus infinity added where nothing is to be seen. Where the token goes is read from a
    tensor.
    """

    _BUCKET, _SHARE = 64, 0.25

    def __init__(self, like: Tensor, shape: tuple[int, ...], layers: int, longest: int) -> None:
        super().__init__(like, shape, layers, longest)
        self._now = torch.zeros(1, dtype=torch.long, device=like.device)

    def move_on(self) -> None:
        """As above."""
        super().move_on()
        self._now += 1

    def sight(self, window: int | None, prompt: int, padding: Tensor | None) -> Sight:
        """As above, with a bias for what is not to be seen."""
        columns = torch.arange(-prompt, self._capacity, device=self._now.device)
        hidden = columns > self._now
        if window:
            hidden = hidden | (columns <= self._now - window)
        bias = torch.zeros(hidden.shape, dtype=self._layers[0].dtype, device=hidden.device)
        bias = bias.masked_fill(hidden, -torch.inf)
        before = bias[:prompt] if window else None
        if padding is not None:
            before = padding if before is None else padding + before
        return Sight(slice(None), slice(None), before, bias[prompt:])

    def place(self, layer: int) -> Tensor:
        """A place beside the cache."""
        own = self._layers[layer]
        self._placed = own.new_empty(*own.shape[:4], own.shape[5])
        return self._placed

    def stored(self, layer: int) -> Tensor:
        """As above; what was placed goes in first."""
        placed, self._placed = self._placed, None  # a recording's memory is not to be held here
        return self._layers[layer].index_copy_(4, self._now, placed.unsqueeze(4))
