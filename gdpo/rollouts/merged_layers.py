"""Sampling without an adapter's overhead: adapted layers stand aside for plain ones that compute the same.

The base's tensors are never written to: each adapted layer is exchanged, as a whole, for a new layer whose
weight is the sum, and comes back at the end. There is nothing to subtract and nothing to restore bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

# Beyond this the matrix products themselves take the time, and the copy would take the memory.
COPY_LIMIT_BYTES = 2**30


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """Inside the block, compute adapted layers in one product where that changes nothing but rounding in fp32.

    Left alone are quantised layers (their weights cannot hold the sum), layers in half precision (whose
    rounding swallows an adapter that is small beside the weight), models above `COPY_LIMIT_BYTES`, and models
    on a graphics card, where the products are not what takes the time.
    """
    places = list(_mergeable(model))
    swapped = []
    try:
        if sum(_weight(layer).nbytes for _, _, layer in places) <= COPY_LIMIT_BYTES:
            for parent, name, layer in places:
                plain = _plain(layer)
                swapped.append((parent, name, layer))
                parent._modules[name] = plain
        yield
    finally:
        for parent, name, layer in swapped:
            parent._modules[name] = layer


def _mergeable(model: Any) -> Iterator[tuple[nn.Module, str, Any]]:
    if not hasattr(model, "peft_config"):
        return
    from peft.tuners.lora.layer import Linear

    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if type(layer) is Linear and _is_plain_lora(layer):
                yield parent, name, layer


def _is_plain_lora(layer: Any) -> bool:
    """Tell whether the layer computes W x + s B A x in fp32 on the CPU, and nothing else."""
    weight, names = _weight(layer), layer.active_adapters
    variants = getattr(layer, "lora_variant", {}), getattr(layer, "use_dora", {})
    biases = getattr(layer, "lora_bias", {})
    return (
        type(layer.base_layer) is nn.Linear
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and not layer.merged
        and not layer.fan_in_fan_out
        and not any(kind.get(name) for kind in (*variants, biases) for name in names)
    )


def _plain(layer: Any) -> nn.Linear:
    """Return a linear layer with the sum of `layer`'s weight and its active adapters; the base's own without any."""
    base = layer.base_layer
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or not names:
        return base
    weight = base.weight
    for name in names:
        down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
        weight = torch.addmm(weight, up, down, alpha=layer.scaling[name])
    plain = nn.Linear(base.in_features, base.out_features, bias=False, device="meta")
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = base.bias
    return plain.eval()


def _weight(layer: Any) -> torch.Tensor:
    return layer.base_layer.weight
