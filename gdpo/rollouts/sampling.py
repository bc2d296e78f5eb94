"""Sampling G completions for each prompt, with the prompt's prefill shared by its group.

Plain torch and transformers: no compiler, vLLM or FlashAttention is needed. A Llama-shaped model is decoded
by `llama_step`, after a comparison with its own forward; any other model with a cache of keys and values by its
own forward (`cache_decoder`); the rest by its own `generate` (`fallback`). Finished rows leave the batch. Row i of
the result depends on its own row of random numbers alone, so a seed gives the same completions however the
batch shrinks meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import PolicyError, shorten
from ..out_of_memory import is_out_of_memory
from ..policies.chat import completion_text, context_length, encode_prompts, stop_ids
from ..polling import polled
from ..prompts import Prompt
from ..rewards.scorer import Completion
from .cache_decoder import Decoder, has_cache
from .choose_token import draw_uniforms
from .decoders import choose_decoder
from .fallback import generate_by_model
from .llama_step.recording import unless_recording
from .merged_layers import merged
from .rollouts import Rollouts
from .rows import Rows

# Rows are dropped from the cache when this share of them has finished: each drop copies the cache.
_DROP_SHARE = 0.25


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
        poll: Function that is called before each layer of each pass; it may raise to stop.

    Raises:
        PolicyError: A prompt leaves no room for a completion in the model's context, or memory ran out.
    """
    prompt_ids, prompt_mask = _encode(model, tokenizer, prompts, max_new_tokens, poll)
    uniforms = draw_uniforms(len(prompts) * group_size, max_new_tokens, seed)
    stops = torch.tensor(stop_ids(model, tokenizer), device=prompt_ids.device)
    rows = Rows(uniforms.to(prompt_ids.device), temperature, stops)
    whole = (
        prompt_ids.repeat_interleave(group_size, 0),
        prompt_mask.repeat_interleave(group_size, 0),
    )
    poll = unless_recording(poll)
    with _explained(len(uniforms), max_new_tokens), merged(model), polled(model, poll):
        if has_cache(model):
            longest = prompt_ids.shape[1] + max_new_tokens
            decoder, quick = choose_decoder(
                model, prompt_ids, prompt_mask, group_size, longest, poll
            )
            with quick:
                _run(decoder, rows, max_new_tokens, poll)
        else:
            generate_by_model(
                model, *whole, max_new_tokens, lambda logits: _forced(rows, logits, poll)
            )
    return _to_rollouts(tokenizer, rows, *whole, stops)


def _to_rollouts(
    tokenizer: Any, rows: Rows, prompt_ids: Tensor, prompt_mask: Tensor, stops: Tensor
) -> Rollouts:
    """Return what has been sampled, as wide as the longest completion; refused if it is not finite."""
    mask = rows.finish(tokenizer.pad_token_id)
    if not rows.logprobs.isfinite().all():
        raise PolicyError(
            "The model computes numbers that are not finite, so nothing can be sampled from it; load it in bf16 or "
            "fp32."
        )
    length = int(mask.sum(1).max())
    ids, mask = rows.ids[:, :length], mask[:, :length]
    return Rollouts(
        prompt_ids,
        prompt_mask,
        ids,
        mask,
        rows.logprobs[:, :length],
        _completions(tokenizer, ids, mask, rows.ended, stops),
        rows.entropy[:, :length],
    )


@contextmanager
def _explained(rows: int, max_new_tokens: int) -> Iterator[None]:
    """Say what to lower when memory runs out."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise PolicyError(
            f"Memory ran out while {rows} completions of up to {max_new_tokens} tokens were sampled "
            f"({shorten(str(error))}); lower `group_size`, `prompts_per_step` or `max_new_tokens`."
        ) from error


def _run(decoder: Decoder, rows: Rows, max_new_tokens: int, poll: Callable[[], None]) -> None:
    for t in range(max_new_tokens):
        poll()
        tokens = rows.draw(decoder.logits)
        done = rows.done()
        if done == len(tokens) or t == max_new_tokens - 1:
            return
        if done >= _DROP_SHARE * len(tokens):
            stay = rows.leave()
            decoder.keep(stay)
            tokens = tokens[stay]
        decoder.advance(tokens)


def _forced(rows: Rows, logits: Tensor, poll: Callable[[], None]) -> tuple[Tensor, bool]:
    """Return the next tokens, and whether all rows have ended."""
    poll()
    tokens = rows.draw(logits)
    return tokens, rows.done() == len(tokens)


def _encode(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    poll: Callable[[], None],
) -> tuple[Tensor, Tensor]:
    """Return token ids and mask of the prompts, `(B, P)`, padded on the left."""
    encoded = [made.ids for made in encode_prompts(tokenizer, prompts, poll=poll)]
    limit = context_length(model)
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
    tokenizer: Any, ids: Tensor, mask: Tensor, ended: Tensor, stops: Tensor
) -> tuple[Completion, ...]:
    rows = [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]
    ending = stops.tolist()
    return tuple(
        Completion(completion_text(tokenizer, row, ending), len(row), not bool(end))
        for row, end in zip(rows, ended, strict=True)
    )
