"""Lets a host stop work in the middle of a pass through a model, which takes many seconds where models are large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def polled(model: Any, poll: Callable[[], None]) -> Iterator[None]:
    """Call `poll` before each layer of every pass inside the block, forward and backward.

    What it raises passes through the model. The layers are the members of the model's lists of layers, and the
    projection to the vocabulary, which takes longer than a layer where the vocabulary is large.

    Args:
        model: Model with or without an adapter.
        poll: Cheap: it is called for each layer of each token. May raise to stop.
    """

    def before(_module: Any, inputs: tuple[Any, ...]) -> None:
        poll()
        for value in inputs:
            if isinstance(value, torch.Tensor) and value.requires_grad:
                value.register_hook(lambda _gradient: poll())

    lists = [part for part in model.modules() if isinstance(part, torch.nn.ModuleList)]
    layers = {id(layer): layer for part in lists for layer in part if _computes(layer)}
    head = model.get_output_embeddings()
    if head is not None:
        layers[id(head)] = head
    handles = [layer.register_forward_pre_hook(before) for layer in layers.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _computes(layer: Any) -> bool:
    """Tell whether it is called itself; lists in lists and adapters' dictionaries are not."""
    return not isinstance(layer, (torch.nn.ModuleList, torch.nn.ModuleDict))
