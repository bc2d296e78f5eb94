"""The plain way through a model: transformers' own forward and cache, for every architecture that has one."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import torch
from torch import Tensor


class Decoder(Protocol):
    """What the sampling loop needs of a model: the logits of the next token of the live rows, `(n, V)`."""

    logits: Tensor

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""

    def advance(self, tokens: Tensor) -> None:
        """Append one token to each live row."""


class Prefix:
    """B prompts passed through the model once.

    Attributes:
        logits: Of the next token, `(B, V)`.
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
        if hasattr(self.cache, "layers"):
            return self.cache.layers[layer].keys, self.cache.layers[layer].values
        return self.cache.key_cache[layer], self.cache.value_cache[layer]


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
    # Before transformers 4.56, models of full and sliding layers had caches of fixed size.
    return _knows_layers() or getattr(config, "cache_implementation", None) != "hybrid"


def full_cache() -> Any:
    """An empty cache that keeps all keys, those that have left a window too."""
    from transformers import DynamicCache

    return DynamicCache()


def windowed_cache(model: Any) -> Any:
    """An empty cache for the model, which forgets what has left a window."""
    from transformers import DynamicCache

    return DynamicCache(config=model.config) if _knows_layers() else DynamicCache()


def innermost(model: Any) -> Any:
    """The model without its adapter's shell."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _knows_layers() -> bool:
    from transformers import DynamicCache

    return "config" in inspect.signature(DynamicCache.__init__).parameters


def _last_logits_only(model: Any) -> dict[str, int]:
    """Ask for the last position's logits only, where the architecture can: the rest is never read."""
    known = "logits_to_keep" in inspect.signature(type(innermost(model)).forward).parameters
    return {"logits_to_keep": 1} if known else {}
