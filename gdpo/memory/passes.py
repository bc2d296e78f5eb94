"""What the passes of a training take, found by running them on the `meta` device."""

from __future__ import annotations

from typing import Any

import torch

from ..rollouts import Rollouts
from ..settings import TrainSettings
from ..update import differentiate
from .trace import tracing
from .weights import size_of


def trace_update(
    model: Any, vocabulary: int, settings: TrainSettings, rewards: int, prompt_tokens: int
) -> tuple[dict[str, int], int]:
    """Peak of one micro-batch, of logits and of all others; and what is left of it: the gradients."""
    completions = settings.prompts_per_step * settings.group_size
    count, length = min(completions, settings.micro_batch), settings.max_new_tokens
    rollouts = _longest(count, prompt_tokens, length)
    with tracing(model, vocabulary) as trace:
        passed = differentiate(
            model,
            rollouts,
            torch.zeros(count),
            torch.zeros(rewards, count),
            settings,
            lambda: None,
        )
        kept = sum(trace.live.values())
        del passed
    return trace.peak, kept


def _longest(count: int, prompt_tokens: int, length: int) -> Rollouts:
    """Completions of full length; the prompts differ in length by a token, so that a mask is needed."""
    prompt_mask = torch.ones(count, prompt_tokens, dtype=torch.long)
    prompt_mask[1:, :1] = 0
    return Rollouts(
        torch.zeros(count, prompt_tokens, dtype=torch.long),
        prompt_mask,
        torch.zeros(count, length, dtype=torch.long),
        torch.ones(count, length, dtype=torch.bool),
        torch.zeros(count, length),
        (),
    )


@torch.no_grad()
def trace_prefill(
    model: Any, vocabulary: int, settings: TrainSettings, prompt_tokens: int
) -> tuple[int, int]:
    """Bytes of the cache when all completions are complete, and peak of the prompts' pass."""
    prompts = settings.prompts_per_step
    ids = torch.zeros(prompts, prompt_tokens, dtype=torch.long)
    mask = _longest(prompts, prompt_tokens, 1).prompt_mask
    with tracing(model, vocabulary) as trace:
        output = model(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1)
        layers = output.past_key_values.layers
        held = sum(size_of(layer.keys) + size_of(layer.values) for layer in layers)
        prefill = sum(trace.peak.values()) - held
    length = prompt_tokens + settings.max_new_tokens
    rows = prompts * settings.group_size
    sizes = [_full_size(layer, rows, length) for layer in layers]
    return sum(sizes) + max(sizes), prefill  # a layer that grows is there twice


def _full_size(layer: Any, rows: int, length: int) -> int:
    window = getattr(layer, "sliding_window", None) or length
    token = size_of(layer.keys[:1, :, :1]) + size_of(layer.values[:1, :, :1])
    return rows * min(length, window) * token
