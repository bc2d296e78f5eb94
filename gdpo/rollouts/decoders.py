"""Chooses the fastest way through a model that computes what the model computes."""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..policies.adapter import innermost
from ..policies.compat import full_cache
from .cache_decoder import CacheDecoder, Decoder, Prefix
from .llama_step.blocks import BlockDecoder
from .llama_step.layout import Layout
from .llama_step.read_layout import OtherShapeError, read_layout
from .llama_step.recording import Recorder, recordable

logger = logging.getLogger(__name__)

# Whether the written-out step computes what the model computes, for each kind of its layers.
_verdicts: weakref.WeakKeyDictionary[Any, dict[tuple[object, ...], bool]] = (
    weakref.WeakKeyDictionary()
)


def choose_decoder(
    model: Any,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    group_size: int,
    longest: int,
    poll: Callable[[], None],
) -> tuple[Decoder, contextlib.AbstractContextManager[Any]]:
    """Return the fastest decoder that computes what the model computes, and the mode it works in."""
    inner = innermost(model)
    verdicts = _verdicts.setdefault(inner, {})
    try:
        layout = read_layout(model)
        signature = _signature(inner, layout)
        if verdicts.get(signature, True):
            prefix = Prefix(model, prompt_ids, prompt_mask, full_cache())
            recorder = Recorder(inner) if recordable(inner) else None
            decoder = BlockDecoder(layout, prefix, group_size, longest, poll, recorder)
            if signature not in verdicts:
                verdicts[signature] = decoder.agrees(model, prefix)
            if verdicts[signature]:
                # Tensors made in this mode cannot take part in a training: only with weights of its own.
                mode = torch.inference_mode() if layout.fused else contextlib.nullcontext()
                return decoder, mode
    except OtherShapeError as error:
        logger.debug("%r is not Llama-shaped: %s", inner.config.model_type, error)
    return CacheDecoder(model, prompt_ids, prompt_mask, group_size), contextlib.nullcontext()


def _signature(inner: Any, layout: Layout) -> tuple[object, ...]:
    """Return what the comparison of the written-out step with the model was made for."""
    weight = inner.get_input_embeddings().weight
    kinds = frozenset(type(module).__name__ for module in inner.modules())
    return (layout.fused, weight.dtype, weight.device.type, kinds)
