"""The plain way through a model: transformers' own forward and cache, for every architecture that has one."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import torch
from torch import Tensor

from ..policies.adapter import innermost
from ..policies.compat import cached_layers, needs_fixed_cache, windowed_cache


class Decoder(Protocol):
    """What the sampling loop needs of a model: the logits of the next token of the live rows, `(n, V)`."""

    logits: Tensor

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        ...

    def advance(self, tokens: Tensor) -> None:
        """Append one token to each live row."""
        ...


class Prefix:
    """B prompts passed through the model once.

    Attributes:
        logits: Logits of the next token, `(B, V)`.
        mask: Which columns are no padding, `(B, P)`.
        cache: transformers' cache.
    """

    def __init__(self, model: Any, prompt_ids: Tensor, mask: Tensor, cache: Any) -> None:
        self._options = _last_logits_only(model)
        self.mask, self.cache = mask[:, :0], cache
        self.logits = self.advance(model, prompt_ids, mask)

    def advance(self, model: Any, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Append `ids` `(B, n)`, and return the logits of the token after them."""
        before = self.mask.shape[1]
        self.mask = torch.cat([self.mask, torch.ones_like(ids) if mask is None else mask], 1)
        output = model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=(self.mask.cumsum(1) - 1).clamp(min=0)[:, before:],
            past_key_values=self.cache,
            use_cache=True,
            **self._options,
        )
        self.cache = output.past_key_values
        return output.logits[:, -1]

    def stored(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, `(B, KV, P, D)`."""
        found = cached_layers(self.cache)[layer]
        return found.keys, found.values


class CacheDecoder:
    """The model's own forward, step by step, on transformers' cache."""

    def __init__(
        self, model: Any, prompt_ids: Tensor, prompt_mask: Tensor, group_size: int
    ) -> None:
        self._model = model
        self._prefix = Prefix(model, prompt_ids, prompt_mask, windowed_cache(model))
        self._prefix.cache.batch_repeat_interleave(group_size)
        self._prefix.mask = prompt_mask.repeat_interleave(group_size, 0)
        self.logits = self._prefix.logits.repeat_interleave(group_size, 0)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._prefix.cache.batch_select_indices(rows)
        self._prefix.mask, self.logits = self._prefix.mask[rows], self.logits[rows]

    def advance(self, tokens: Tensor) -> None:
        """Append one token to each live row."""
        self.logits = self._prefix.advance(self._model, tokens[:, None])


def has_cache(model: Any) -> bool:
    """Whether the model's state is keys and values alone, whose rows can be repeated and dropped."""
    inner = innermost(model)
    config = inner.config
    kinds = set(getattr(config.get_text_config(), "layer_types", None) or ["attention"])
    if any("attention" not in kind or "linear" in kind for kind in kinds):
        return False
    if getattr(inner, "_is_stateful", False):
        return False
    if "past_key_values" not in inspect.signature(type(inner).forward).parameters:
        return False
    return not needs_fixed_cache(config)


def _last_logits_only(model: Any) -> dict[str, int]:
    """Ask for the last position's logits only, where the architecture can: the rest is never read."""
    known = "logits_to_keep" in inspect.signature(type(innermost(model)).forward).parameters
    return {"logits_to_keep": 1} if known else {}
