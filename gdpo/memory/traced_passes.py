"""What the passes of a training take, found by running them on the `meta` device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch

from ..policies.compat import CachedLayer, cached_layers
from ..rollouts import Rollouts
from ..rollouts.choose_token import pick
from ..rollouts.llama_step.read_layout import OtherShapeError, read_layout
from ..settings import TrainSettings
from ..update.passes import differentiate, plan_update
from .trace import tracing
from .weights import size_of


class Texts(NamedTuple):
    """Tokens of the longest and of the shortest prompt."""

    longest: int
    shortest: int


class Draw(NamedTuple):
    """How many prompts are sampled from at a time, and how many completions of each."""

    prompts: int
    group: int

    @property
    def rows(self) -> int:
        """Return the completions."""
        return self.prompts * self.group


def trace_update(
    model: Any, vocabulary: int, settings: TrainSettings, rewards: int, texts: Texts
) -> tuple[dict[str, int], int]:
    """Return the peak of the largest micro-batch, of logits and of all others; and what is left of it: the gradients.

    Shared prompts take less memory than shorter ones that are not worth sharing, so both are tried where both can come.
    """
    found = [
        _trace_update(model, vocabulary, settings, rewards, length)
        for length in {texts.longest, _longest_plain(model, settings, texts)}
    ]
    return max(found, key=lambda one: sum(one[0].values()))


def _trace_update(
    model: Any, vocabulary: int, settings: TrainSettings, rewards: int, prompt_tokens: int
) -> tuple[dict[str, int], int]:
    rollouts = _batch(settings, prompt_tokens)
    last = plan_update(model, rollouts, settings)[-1]
    count = len(rollouts.lengths)
    with tracing(model, vocabulary) as trace:
        passed = differentiate(
            model,
            rollouts,
            torch.zeros(count),
            torch.zeros(rewards, count),
            settings,
            lambda: None,
            batches=[replace(last, parts=last.parts[-1:])],
        )
        kept = sum(trace.live.values())
        del passed
    return trace.peak, kept


def _longest_plain(model: Any, settings: TrainSettings, texts: Texts) -> int:
    """Return the greatest length of the prompts at which they are not shared; the longest where they are at all lengths."""

    def is_plain(length: int) -> bool:
        return plan_update(model, _batch(settings, length), settings)[-1].owners is None

    if is_plain(texts.longest) or not is_plain(texts.shortest):
        return texts.longest
    low, high = texts.shortest, texts.longest  # plain, and shared
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_plain(middle) else (low, middle)
    return low


def _batch(settings: TrainSettings, prompt_tokens: int) -> Rollouts:
    """The completions of as many prompts as one micro-batch may be of: more make more batches, not larger ones."""
    prompts = min(settings.prompts_per_step, settings.micro_batch)
    return _longest(prompts, prompt_tokens, settings.max_new_tokens, settings.group_size)


def _longest(prompts: int, prompt_tokens: int, length: int, group: int = 1) -> Rollouts:
    """Completions of full length; some differ by a token, in the prompt or themselves, so that masks are needed."""
    count = prompts * group
    prompt_ids = torch.zeros(prompts, prompt_tokens, dtype=torch.long)
    prompt_ids[:, -1] = torch.arange(prompts)
    prompt_mask = torch.ones(prompts, prompt_tokens, dtype=torch.long)
    prompt_mask[1:, :1] = 0
    mask = torch.ones(count, length, dtype=torch.bool)
    mask[1:group, max(1, length - 1) :] = False
    return Rollouts(
        prompt_ids.repeat_interleave(group, 0),
        prompt_mask.repeat_interleave(group, 0),
        torch.zeros(count, length, dtype=torch.long),
        mask,
        torch.zeros(count, length),
        (),
    )


@torch.no_grad()
def trace_sampling(
    model: Any, vocabulary: int, settings: TrainSettings, prompt_tokens: int, draw: Draw
) -> tuple[int, int]:
    """Return bytes of the cache when all completions are complete, and peak of the prompts' pass or of a choice."""
    ids = torch.zeros(draw.prompts, prompt_tokens, dtype=torch.long)
    mask = _longest(draw.prompts, prompt_tokens, 1).prompt_mask
    with tracing(model, vocabulary) as trace:
        output = model(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1)
        layers = cached_layers(output.past_key_values)
        held = sum(size_of(layer.keys) + size_of(layer.values) for layer in layers)
        prefill = sum(trace.peak.values()) - held
    choice = _trace_choice(output.logits.dtype, vocabulary, settings.temperature, draw.rows)
    if _shares_prompts(model):  # the prompts' tokens are there once for a group
        own = [_size(layer, draw.rows, settings.max_new_tokens) for layer in layers]
        held += max(own)
    else:
        length = prompt_tokens + settings.max_new_tokens
        own = [_size(layer, draw.rows, _seen(layer, length)) for layer in layers]
        held = max(own)
    return sum(own) + held, max(prefill, choice)  # a layer that grows is there twice


def _trace_choice(dtype: torch.dtype, vocabulary: int, temperature: float, rows: int) -> int:
    """Return the peak while a token of each row is chosen, the logits with it."""
    with tracing(torch.nn.Identity(), vocabulary) as trace:
        logits = torch.empty(rows, vocabulary, dtype=dtype, device="meta")
        pick(logits, temperature, torch.zeros(rows))
    return sum(trace.peak.values())


def _shares_prompts(model: Any) -> bool:
    try:
        read_layout(model)
    except OtherShapeError:
        return False
    return True


def _size(layer: CachedLayer, rows: int, tokens: int) -> int:
    token = size_of(layer.keys[:1, :, :1]) + size_of(layer.values[:1, :, :1])
    return rows * tokens * token


def _seen(layer: CachedLayer, length: int) -> int:
    """Tell how many of `length` tokens the cache keeps."""
    return min(length, layer.window or length)
