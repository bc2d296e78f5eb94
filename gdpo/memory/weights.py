"""What stays in memory during a training: weights, the adapter's optimiser, copies for sampling. Arithmetic on shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..optimizers import NATURAL
from ..policies.compat import saved_dtype
from ..policies.precision import is_quantised
from ..rollouts.merged_layers import COPY_LIMIT_BYTES
from ..settings import TrainSettings
from .trace import MetaLinear

# nf4: two weights in a byte and an fp32 scale for each 64; int8: one in a byte, and a scale for each output.
_NF4_BYTES, _INT8_BYTES, _SCALE_BYTES = 0.5 + 4 / 64, 1, 4
# bitsandbytes keeps the state of smaller tensors in fp32; of larger ones a byte, and a scale for each 256.
_SMALL_STATE, _STATE_BYTES = 4096, 1 + 4 / 256
# What a tokenizer keeps for each of its tokens: texts, numbers, merges. 0.35 kB for one that is read by itself, 1.05 kB
# for Gemma's, of which transformers keeps a copy in Python.
TOKEN_BYTES = 1024


def _quantised(model: Any, precision: str) -> Iterator[tuple[str, torch.nn.Linear]]:
    """Yield the layers that bitsandbytes replaces: all linear ones but the output head."""
    head = model.get_output_embeddings()
    if is_quantised(precision):
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and module is not head:
                yield name, module


def weight_bytes(model: Any, precision: str) -> int:
    """Return bytes of the weights as they will be held; tied ones count once."""
    packed = {id(m.weight): m for _, m in _quantised(model, precision)}
    total = 0.0
    for parameter in model.parameters():
        if id(parameter) not in packed:
            total += parameter.numel() * parameter.element_size()
        elif precision == "int8":
            total += parameter.numel() * _INT8_BYTES + len(parameter) * _SCALE_BYTES
        else:
            total += parameter.numel() * _NF4_BYTES
    return round(total + sum(b.numel() * b.element_size() for b in model.buffers()))


def sampling_copies(model: Any, precision: str, device: str) -> int:
    """Return bytes of the temporary copies that sampling on a CPU makes: merged weights, and the packed form that oneDNN reads."""
    head = model.get_output_embeddings()
    if precision != "fp32" or device != "cpu":
        return 0
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    every = sum(size_of(module.weight) for module in linear)
    adapted = every - size_of(head.weight)
    added = adapted if adapted <= COPY_LIMIT_BYTES else 0
    return added + (every if every <= COPY_LIMIT_BYTES else 0)


def file_bytes(config: Any, model: Any, dtype: torch.dtype) -> int:
    """Return bytes of the model's files, which stay mapped while weights of another type are made from them."""
    saved = saved_dtype(config)
    if saved == dtype:
        return 0  # the files themselves are the weights
    return sum(p.numel() for p in model.parameters()) * saved.itemsize


def stand_ins(model: Any, precision: str) -> Any:
    """Return the meta model with stand-ins for its quantised layers."""
    for name, module in list(_quantised(model, precision)):
        model.set_submodule(name, MetaLinear(module, precision))
    return model


def size_of(tensor: Tensor) -> int:
    """Return bytes of a tensor."""
    return tensor.numel() * tensor.element_size()


def optimizer_bytes(name: str, tensors: list[Tensor]) -> int:
    """Return bytes of the state that the optimiser keeps for these tensors, an average of them among it."""
    if name == "sgd":
        return 0
    if name == NATURAL:  # squares, direction and average
        return sum(3 * 4 * p.numel() for p in tensors)
    if name == "adamw":
        return sum(2 * 4 * p.numel() for p in tensors)
    small = sum(2 * 4 * p.numel() for p in tensors if p.numel() < _SMALL_STATE)
    large = sum(p.numel() for p in tensors if p.numel() >= _SMALL_STATE)
    return round(small + 2 * _STATE_BYTES * large)


def score_bytes(
    settings: TrainSettings, tensors: list[Tensor], dtype: torch.dtype
) -> tuple[int, int]:
    """Return bytes of the completions' scores, and of what a natural step computes from those of one matrix.

    Args:
        settings: Settings of the training; only the natural optimiser keeps scores.
        tensors: The adapter's matrices.
        dtype: Type that the model computes in; the scores are of it, or of fp32.
    """
    if settings.optimizer != NATURAL:
        return 0, 0
    count = (settings.prompts_per_step + settings.most_sampled_again) * settings.group_size
    numbers, largest = sum(p.numel() for p in tensors), max(p.numel() for p in tensors)
    return count * numbers * dtype.itemsize, 2 * count * largest * 4  # weighted, and not
