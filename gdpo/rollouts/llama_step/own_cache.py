"""Keys and values of the rows' own tokens, and what of the prompts and of them a layer sees."""

from __future__ import annotations

from typing import NamedTuple, Protocol

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


class OwnCache(Protocol):
    """Keys and values of the rows' own tokens, as the decode step uses them."""

    def make_room(self) -> bool:
        """Make sure that one more token fits; tell whether the tensors are others now."""
        ...

    def move_on(self) -> None:
        """Keep the token that was placed."""
        ...

    def keep(self, slots: Tensor, grouping: Grouping) -> None:
        """Go on with these slots, in other groups."""
        ...

    def sight(self, window: int | None, prompt: int, padding: Tensor | None) -> Sight:
        """Return what a layer sees from the token that comes now.

        Args:
            window: Number of tokens that it sees at most, itself among them; None is all.
            prompt: P, the columns of the prompts.
            padding: Minus infinity at the prompts' padding, `(B * KV, 1, P)`, or None.
        """
        ...

    def place(self, layer: int) -> Tensor:
        """Tell where the token's keys and values are to be put, `(2, B, KV, G, D)`."""
        ...

    def stored(self, layer: int) -> Tensor:
        """Return all keys and values, `(2, B, KV, G, T, D)`, once the token's are placed."""
        ...


class Storage:
    """One tensor `(2, B, KV, G, T, D)` a layer, with room for more tokens than are used.

    Attributes:
        layers: The tensors.
        used: Number of tokens that are stored.
        capacity: T, the number of tokens that there is room for.
    """

    def __init__(self, like: Tensor, shape: tuple[int, ...], layers: int, longest: int) -> None:
        """Begin without any token.

        Args:
            like: A tensor of the same dtype, on the same device.
            shape: `(2, B, KV, G, 0, D)`.
            layers: Number of layers.
            longest: Number of tokens that may come.
        """
        self.layers = [like.new_empty(shape) for _ in range(layers)]
        self.used = self.capacity = 0
        self._longest = longest

    def make_room(self, bucket: int, share: float) -> bool:
        """Make sure that one more token fits; tell whether the tensors are others now.

        Args:
            bucket: Number of tokens that room is made for at once.
            share: The same as a share of what is stored; the larger of the two counts.
        """
        if self.used < self.capacity:
            return False
        self.capacity = min(self.used + max(bucket, int(self.used * share)), self._longest)
        for index, own in enumerate(self.layers):
            wider = own.new_zeros(*own.shape[:4], self.capacity, own.shape[5])
            wider[..., : self.used, :] = own[..., : self.used, :]
            self.layers[index] = wider
        return True

    def keep(self, slots: Tensor, grouping: Grouping) -> None:
        """Go on with these slots, in other groups."""
        for index, own in enumerate(self.layers):
            rows = own.transpose(2, 3).flatten(1, 2)[:, slots]
            rows = rows.unflatten(1, (grouping.count, grouping.size))
            self.layers[index] = rows.transpose(2, 3).contiguous()


class GrowingCache:
    """A layer is shown the columns that it sees and no others, so shapes change with each token."""

    # A larger gap between the rows breaks the stream in which processors read ahead: attention then takes twice the
    # time.
    _BUCKET, _SHARE = 8, 0.125

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def make_room(self) -> bool:
        """See `OwnCache`."""
        return self._storage.make_room(self._BUCKET, self._SHARE)

    def move_on(self) -> None:
        """See `OwnCache`."""
        self._storage.used += 1

    def keep(self, slots: Tensor, grouping: Grouping) -> None:
        """See `OwnCache`."""
        self._storage.keep(slots, grouping)

    def sight(self, window: int | None, prompt: int, padding: Tensor | None) -> Sight:
        """See `OwnCache`."""
        end = self._storage.used + 1
        begin = max(0, prompt + end - window) if window else 0
        bias = padding if padding is None else padding[..., begin:]
        return Sight(slice(begin, None), slice(max(0, begin - prompt), end), bias, None)

    def place(self, layer: int) -> Tensor:
        """See `OwnCache`: the token's place in the storage itself."""
        return self._storage.layers[layer][..., self._storage.used, :]

    def stored(self, layer: int) -> Tensor:
        """See `OwnCache`."""
        return self._storage.layers[layer]


class FixedCache:
    """Shapes and places stay as they are until room is made or rows leave, so that a step can be recorded.

    A layer sees all columns, with minus infinity added where nothing is to be seen. Where the token goes is read from a
    tensor.
    """

    _BUCKET, _SHARE = 64, 0.25

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._now = torch.zeros(1, dtype=torch.long, device=storage.layers[0].device)
        self._placed: Tensor | None = None

    def make_room(self) -> bool:
        """See `OwnCache`."""
        return self._storage.make_room(self._BUCKET, self._SHARE)

    def move_on(self) -> None:
        """See `OwnCache`."""
        self._storage.used += 1
        self._now += 1

    def keep(self, slots: Tensor, grouping: Grouping) -> None:
        """See `OwnCache`."""
        self._storage.keep(slots, grouping)

    def sight(self, window: int | None, prompt: int, padding: Tensor | None) -> Sight:
        """See `OwnCache`: all columns, with a bias for those that are not to be seen."""
        columns = torch.arange(-prompt, self._storage.capacity, device=self._now.device)
        hidden = columns > self._now
        if window:
            hidden = hidden | (columns <= self._now - window)
        dtype = self._storage.layers[0].dtype
        bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
        bias = bias.masked_fill(hidden, -torch.inf)
        before = bias[:prompt] if window else None
        if padding is not None:
            before = padding if before is None else padding + before
        return Sight(slice(None), slice(None), before, bias[prompt:])

    def place(self, layer: int) -> Tensor:
        """See `OwnCache`: a tensor beside the storage."""
        own = self._storage.layers[layer]
        self._placed = own.new_empty(*own.shape[:4], own.shape[5])
        return self._placed

    def stored(self, layer: int) -> Tensor:
        """See `OwnCache`; what was placed goes into the storage first."""
        placed, self._placed = self._placed, None  # a recording's memory is not to be held here
        if placed is None:
            raise RuntimeError("`stored` needs a token that `place` was called for before")
        return self._storage.layers[layer].index_copy_(4, self._now, placed.unsqueeze(4))
