"""Which matrices of a model an adapter can train, and which of them it leaves as they are.

The rewards' gradients are told apart at the linear layers, one completion from another. So LoRA goes on linear layers
that completions pass side by side. Routed experts take the tokens of all completions in one heap, and newer versions of
transformers keep them, and their router, as bare parameters; parts for images are not passed at all.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any

import torch

from ..errors import MODEL_REFUSALS, PolicyError, shorten
from ..out_of_memory import is_out_of_memory
from .compat import kept_targets

# Of the pass that shows what reaches a layer: sizes that nothing else in a model has side by side.
_ROWS, _TOKENS = 3, 5
# Kinds of matrices named in a sentence; the others are counted.
_NAMED = 6


def find_targets(model: Any) -> list[str]:
    """Return the names of the linear layers that LoRA is put on, in the model's order.

    Args:
        model: Model without an adapter, with or without contents.

    Raises:
        PolicyError: There is no such layer.
    """
    apart = passed_apart(model)
    names = [name for name, module in model.named_modules() if apart.get(module)]
    names = kept_targets(model, names)
    if not names:
        raise PolicyError(
            f"LoRA cannot be put on {model.config.model_type!r} models (no linear layer takes each completion by "
            "itself); use another model."
        )
    return names


def left_as_it_is(model: Any) -> str | None:
    """Return a sentence on the matrices that the model's adapter leaves as they are; None if it covers all.

    Embeddings, the output head and vectors do not count: LoRA is never put on them.

    Args:
        model: Model with an adapter on it.
    """
    sizes: dict[str, int] = {}
    covered = 0
    base = model.get_base_model()
    outside = {id(model.get_output_embeddings())}
    for path, module in base.named_modules():
        if hasattr(module, "lora_A") and len(module.lora_A):
            covered += _entries(module.get_base_layer())
            outside |= {id(part) for part in module.modules()}
        if id(module) not in outside and not isinstance(module, torch.nn.Embedding):
            for name, size in _matrices(module):
                kind = re.sub(r"(?<=\.)\d+(?=\.)", "*", f"{path}.{name}")
                sizes[kind] = sizes.get(kind, 0) + size
    if not sizes:
        return None
    share = covered / (covered + sum(sizes.values()))
    kinds = sorted(sizes, key=lambda kind: -sizes[kind])
    more = f" and {len(kinds) - _NAMED} more" if len(kinds) > _NAMED else ""
    return (
        f"The adapter is on {share:.0%} of the weights in the layers of this {model.config.model_type!r} model. Left "
        f"as they are: {', '.join(kinds[:_NAMED])}{more}. A fresh adapter covers the linear layers that take each "
        "completion by itself, which routed experts and parts for images do not."
    )


def passed_apart(model: Any) -> dict[Any, bool]:
    """Tell of each linear layer between the tokens and the logits whether its input holds the completions side by side.

    Layers whose output only chooses, as the indexers of sparse attention do, get no gradient and are not among them.

    Raises:
        PolicyError: The model cannot be passed.
    """
    from transformers.pytorch_utils import Conv1D

    apart: dict[Any, bool] = {}
    starts: list[torch.Tensor] = []
    head = model.get_output_embeddings()
    linear = (torch.nn.Linear, Conv1D)
    layers = [m for m in model.modules() if isinstance(m, linear) and m is not head]
    tables = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    handles = [layer.register_forward_hook(partial(_note, apart)) for layer in layers]
    handles += [table.register_forward_hook(partial(_start, starts)) for table in tables]
    try:
        _pass_back(model, starts)
    finally:
        for handle in handles:
            handle.remove()
    return apart


def _start(starts: list[torch.Tensor], _table: Any, _inputs: Any, output: Any) -> Any:
    """Let the gradients end at what an embedding gives."""
    if not isinstance(output, torch.Tensor):  # a table of positions that returns these, too
        return output
    starts.append(output.detach().requires_grad_())
    return starts[-1].clone()  # which some models scale in place


def _note(apart: dict[Any, bool], layer: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Note of a layer how its input came, once a gradient reaches what it gave."""
    # A router that also returns its choice is a linear layer by its class alone.
    if not isinstance(output, torch.Tensor) or not output.requires_grad:
        return
    own = bool(inputs) and inputs[0].dim() > 2 and len(inputs[0]) == _ROWS
    # A layer that splits its matrix among groups is none either: LoRA would add the product with all of it.
    own = own and output.shape == (*inputs[0].shape[:-1], _width(layer))
    output.register_hook(lambda _gradient: apart.update({layer: own and apart.get(layer, True)}))


def _pass_back(model: Any, starts: list[torch.Tensor]) -> None:
    """Pass a few tokens forward, and gradients back to the tensors that the pass puts into `starts`."""
    # A model without contents is passed with real tokens, see `memory/trace.py`.
    device = "cpu" if model.device.type == "meta" else model.device
    ids = torch.arange(_ROWS * _TOKENS, device=device).view(_ROWS, _TOKENS)
    ids %= model.get_input_embeddings().weight.shape[0]
    try:
        with torch.enable_grad():
            passed = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
            torch.autograd.grad(passed.sum(), starts, allow_unused=True)
    except MODEL_REFUSALS as error:
        if is_out_of_memory(error):
            raise
        reason = shorten(" ".join(f"{type(error).__name__}: {error}".split()), 160)
        raise PolicyError(
            f"A pass through this {model.config.model_type!r} model fails ({reason}): its config.json does not fit "
            "its weights, or the family cannot be trained here; use another model."
        ) from error


def _width(layer: Any) -> int:
    """Return how many numbers a linear layer makes of a token, by its own words."""
    return layer.out_features if hasattr(layer, "out_features") else layer.nf


def _matrices(module: Any) -> list[tuple[str, int]]:
    """Return the module's own matrices and stacks of them, with their numbers of entries."""
    if isinstance(module, torch.nn.Linear):
        return [("weight", _entries(module))]
    own = module.named_parameters(recurse=False)
    return [(name, parameter.numel()) for name, parameter in own if parameter.dim() > 1]


def _entries(layer: Any) -> int:
    """Return the number of a layer's weights; packed ones have another shape."""
    if isinstance(layer, torch.nn.Linear):
        return layer.in_features * layer.out_features
    return math.prod(layer.weight.shape)
