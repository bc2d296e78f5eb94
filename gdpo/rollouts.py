"""Sampling G completions for each prompt, with the prompt's prefill shared by its group.

Plain torch and transformers' cache interface: no compiler, vLLM or FlashAttention is needed. Finished
rows leave the batch. Row i of the result depends on its own row of random numbers alone, so a seed
gives the same completions however the batch shrinks meanwhile.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import PolicyError, shorten
from .policy import encode_prompt, stop_ids
from .polling import polled
from .prompts import Prompt
from .rewards.base import Completion

# Rows are dropped from the cache when this share of them has finished: each drop copies the cache.
_DROP_SHARE = 0.25


@dataclass(frozen=True)
class Rollouts:
    """N = B * G completions; those of prompt b are rows b*G to (b+1)*G - 1.

    Attributes:
        prompt_ids, prompt_mask: `(N, P)`, padded on the left.
        completion_ids, completion_mask: `(N, T)`, padded on the right; the mask covers the stop token.
        logprobs: `(N, T)`, of the sampled tokens at the sampling temperature; 0 where masked.
        completions: Text, token count and whether the length limit cut it, for each row.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    logprobs: Tensor
    completions: tuple[Completion, ...]

    @property
    def lengths(self) -> Tensor:
        """Tokens of each completion, `(N,)`."""
        return self.completion_mask.sum(1)


@torch.no_grad()
def sample(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    group_size: int = 1,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int,
    poll: Callable[[], None] = lambda: None,
) -> Rollouts:
    """Sample `group_size` completions for each prompt.

    Args:
        model: A causal language model, with or without an adapter, in evaluation mode.
        tokenizer: Its tokenizer.
        prompts: B prompts.
        group_size: G.
        max_new_tokens: Longest completion; one that reaches it is marked truncated.
        temperature: Divides the logits; 0 takes the likeliest token.
        seed: The completions depend on it, the prompts and the model alone.
        poll: Called before each layer of each pass; may raise to stop.

    Raises:
        PolicyError: A prompt leaves no room for a completion in the model's context.
    """
    prompt_ids, prompt_mask = _encode(model, tokenizer, prompts, max_new_tokens)
    uniforms = _uniforms(len(prompts) * group_size, max_new_tokens, seed).to(prompt_ids.device)
    stops = torch.tensor(stop_ids(model, tokenizer), device=prompt_ids.device)

    rows = torch.arange(len(uniforms), device=prompt_ids.device)  # live rows of the result
    ids = torch.full(uniforms.shape, tokenizer.pad_token_id, device=rows.device)
    mask = torch.zeros(uniforms.shape, dtype=torch.bool, device=rows.device)
    logprobs = torch.zeros(uniforms.shape, device=rows.device)
    done = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    with polled(model, poll):
        decoder = _Decoder(model, prompt_ids, prompt_mask, group_size)
        for t in range(max_new_tokens):
            poll()
            tokens, chosen = _choose(decoder.logits, temperature, uniforms[rows, t])
            live = rows[~done]
            ids[live, t], mask[live, t], logprobs[live, t] = tokens[~done], True, chosen[~done]
            done = done | torch.isin(tokens, stops)
            if done.all() or t == max_new_tokens - 1:
                break
            if done.float().mean() >= _DROP_SHARE:
                keep = (~done).nonzero().squeeze(1)
                decoder.keep(keep)
                rows, tokens, done = rows[keep], tokens[keep], done[keep]
            decoder.advance(tokens)

    if not logprobs.isfinite().all():
        raise PolicyError(
            "The model computes numbers that are not finite, so nothing can be sampled from it; load it in bf16 or "
            "fp32."
        )
    length = int(mask.sum(1).max())
    ids, mask, logprobs = ids[:, :length], mask[:, :length], logprobs[:, :length]
    ended = (torch.isin(ids, stops) & mask).any(1)
    return Rollouts(
        prompt_ids.repeat_interleave(group_size, 0),
        prompt_mask.repeat_interleave(group_size, 0),
        ids,
        mask,
        logprobs,
        _completions(tokenizer, ids, mask, ended, stops),
    )


class _Decoder:
    """The model, its cache and the logits of the next token for the live rows."""

    def __init__(
        self, model: Any, prompt_ids: Tensor, prompt_mask: Tensor, group_size: int
    ) -> None:
        self._model = model
        self._options = _last_logits_only(model)
        self._mask = prompt_mask.repeat_interleave(group_size, 0)
        positions = (prompt_mask.cumsum(1) - 1).clamp(min=0)
        output = self._forward(prompt_ids, prompt_mask, positions, _new_cache(model))
        self._cache = output.past_key_values
        self._cache.batch_repeat_interleave(group_size)
        self.logits = output.logits[:, -1].repeat_interleave(group_size, 0)  # (N, V)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]

    def advance(self, tokens: Tensor) -> None:
        """Append one token to each live row."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], 1)
        positions = self._mask.sum(1, keepdim=True) - 1
        output = self._forward(tokens[:, None], self._mask, positions, self._cache)
        self._cache, self.logits = output.past_key_values, output.logits[:, -1]

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Any:
        return self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **self._options,
        )


def _choose(logits: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Pick one token a row by inverting the cumulative distribution at `uniforms` (N,)."""
    logprobs = (logits.float() / (temperature or 1.0)).log_softmax(-1)  # (N, V)
    if temperature == 0:
        tokens = logprobs.argmax(-1)
    else:
        cumulative = logprobs.exp().cumsum(-1)
        # Scaling by the last entry makes rounding in the sum harmless: a token of probability 0 is never met.
        wanted = uniforms[:, None] * cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, wanted, right=True).squeeze(1)
        tokens = tokens.clamp(max=logits.shape[-1] - 1)
    return tokens, logprobs.gather(1, tokens[:, None]).squeeze(1)


def _uniforms(rows: int, length: int, seed: int) -> Tensor:
    """Random numbers in [0, 1) from a generator of their own, the same on every device."""
    return torch.rand(rows, length, generator=torch.Generator().manual_seed(seed))


def _encode(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
) -> tuple[Tensor, Tensor]:
    """Token ids and mask of the prompts, `(B, P)`, padded on the left."""
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    limit = getattr(model.config, "max_position_embeddings", None)
    for prompt, ids in zip(prompts, encoded, strict=True):
        if not ids:
            raise PolicyError(f"The prompt {shorten(prompt.text)} has no tokens; remove it.")
        if limit and len(ids) + max_new_tokens > limit:
            raise PolicyError(
                f"The prompt {shorten(prompt.text)} has {len(ids)} tokens, which with {max_new_tokens} new "
                f"ones exceeds the model's {limit}; lower `max_new_tokens` or shorten the prompt."
            )
    width = max(map(len, encoded))
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in encoded])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in encoded])
    return ids.to(model.device), mask.to(model.device)


def _completions(
    tokenizer: Any,
    ids: Tensor,
    mask: Tensor,
    ended: Tensor,
    stops: Tensor,
) -> tuple[Completion, ...]:
    shown = mask & ~torch.isin(ids, stops)
    texts = tokenizer.batch_decode(
        [row[keep].tolist() for row, keep in zip(ids, shown, strict=True)], skip_special_tokens=True
    )
    return tuple(
        Completion(text.strip(), int(tokens), not bool(end))
        for text, tokens, end in zip(texts, mask.sum(1), ended, strict=True)
    )


def _new_cache(model: Any) -> Any:
    """A cache whose rows can be repeated and dropped.

    Raises:
        PolicyError: The model's state is of another kind.
    """
    from transformers import DynamicCache

    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ["attention"])
    if any("attention" not in kind or "linear" in kind for kind in kinds):
        raise PolicyError(
            f"{model.config.model_type!r} models keep a recurrent state, which a group cannot share; use a model "
            "with attention in every layer."
        )
    if "config" in inspect.signature(DynamicCache.__init__).parameters:
        return DynamicCache(config=model.config)
    if getattr(model.config, "cache_implementation", None) == "hybrid":
        raise PolicyError(
            f"Sampling from {model.config.model_type!r} models needs transformers 4.56 or newer, whose caches "
            "can be shared by a group; run `pip install -U transformers`."
        )
    return DynamicCache()


def _last_logits_only(model: Any) -> dict[str, int]:
    """Ask for the last position's logits only, where the architecture can: the rest is never read."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    known = "logits_to_keep" in inspect.signature(type(inner).forward).parameters
    return {"logits_to_keep": 1} if known else {}
