"""Models whose state is not keys and values: their own `generate` runs, and every token is still chosen here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..policies.adapter import innermost

logger = logging.getLogger(__name__)

_told: set[str] = set()


def generate_by_model(
    model: Any,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    max_new_tokens: int,
    choose: Callable[[Tensor], tuple[Tensor, bool]],
) -> None:
    """Let the model's `generate` run, once for each of the rows.

    Args:
        model: Model in evaluation mode.
        prompt_ids: `(N, P)`, padded on the left.
        prompt_mask: The same shape.
        max_new_tokens: Longest completion, in tokens.
        choose: Logits `(N, V)` to tokens `(N,)`, and whether all rows are done.
    """
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    _tell(model)
    state = {"done": False}

    def force(_ids: Tensor, logits: Tensor) -> Tensor:
        tokens, state["done"] = choose(logits)
        return torch.full_like(logits, -torch.inf).scatter_(1, tokens[:, None], 0.0)

    def stop(ids: Tensor, _scores: Any, **_options: object) -> Tensor:
        return torch.full((len(ids),), state["done"], device=ids.device)

    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, use_cache=True, pad_token_id=0
    )
    inner, own = innermost(model), innermost(model).generation_config
    # `generate` fills what is unset from the model's own settings: penalties would bend the distribution.
    inner.generation_config = config
    try:
        model.generate(
            input_ids=prompt_ids,
            attention_mask=prompt_mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([force]),
            stopping_criteria=StoppingCriteriaList([stop]),
        )
    finally:
        inner.generation_config = own


def _tell(model: Any) -> None:
    kind = model.config.model_type
    if kind not in _told:
        _told.add(kind)
        logger.warning(
            "%r models keep another state than keys and values, or one that this transformers cannot share within "
            "a group; sampling uses the model's own `generate`, which is slower.",
            kind,
        )
