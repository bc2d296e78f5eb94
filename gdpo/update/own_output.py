"""Whether the logits that the update makes of hidden states are the model's: some families have a way of their own.

The update reads the decoder's states through the output layer, a few tokens at a time, and never asks the model
for logits. A family that scales or caps them otherwise than is known here would be trained on another distribution
than it samples from, and nothing would fail.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import TrainingError
from ..policies.adapter import decoder_of, innermost
from .logprobs import Head

_TOKENS = 4
# Outputs of the layer that are put in place of the model's own, as large as those of trained models.
_REACH = 30.0
# Half precision rounds the outputs by an eighth; another scale or cap that matters moves them by more than this.
_TOLERANCE = 0.5


def check_output(model: Any) -> None:
    """Check that the model makes its logits of its decoder's states as the update does.

    Args:
        model: Model with or without an adapter.

    Raises:
        TrainingError: It does something else before or after its output layer.
    """
    inner = innermost(model)
    head = Head(inner, 1.0)
    seen: dict[str, Tensor] = {}

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        seen["states"] = output[0]

    def replace(_module: Any, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        seen["read"] = inputs[0]
        ramp = torch.linspace(-_REACH, _REACH, output.shape[-1], device=output.device)
        seen["made"] = ramp.to(output.dtype).expand_as(output)
        return seen["made"].clone()  # which some models scale in place

    handles = [
        decoder_of(inner).register_forward_hook(keep),
        head.project.register_forward_hook(replace),
    ]
    ids = torch.arange(_TOKENS, device=model.device)[None] % head.vocabulary
    try:
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
    finally:
        for handle in handles:
            handle.remove()
    if not (
        _alike(seen.get("states"), seen.get("read")) and _near(logits, head.scaled(seen["made"]))
    ):
        raise TrainingError(
            f"{inner.config.model_type!r} models make their logits in a way that the training does not know, so they "
            "would be trained on another distribution than they sample from; train a model of another family."
        )


def _alike(one: Tensor | None, other: Tensor | None) -> bool:
    """Tell whether these are the same states, up to a rounding."""
    if one is None or other is None or one.shape != other.shape:
        return False
    one, other = one.float(), other.float()
    return bool((one - other).norm() <= 0.01 * one.norm())


def _near(logits: Tensor, own: Tensor) -> bool:
    """Tell whether both give the same probabilities, for which a sum that all share is nothing."""
    if logits.shape != own.shape:
        return False
    apart = logits.to(own.dtype).log_softmax(-1) - own.log_softmax(-1)
    return bool(apart.abs().max() <= _TOLERANCE)
