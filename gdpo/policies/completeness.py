"""Whether a model's files gave it all its weights: those that they lack would stay random, without a word."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch

from ..errors import PolicyError, shorten
from .compat import LoadReport
from .weight_files import WeightFiles

logger = logging.getLogger(__name__)

# Weights named in a message; the others are counted.
_NAMED = 3
# What torch's wrappers put before the names of the model inside them: compiled, parallel, sharded, checkpointed.
_WRAPPERS = r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)"
_WRAPPED = re.compile(rf"(?:(?:{_WRAPPERS}|base_model\.model)\.)+")
_INSIDE = re.compile(r"(?<=\.)_(?:orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.")
_ADAPTED = re.compile(r"\.(?:lora_[AB]|lora_embedding_[AB]|base_layer)\.")


def check_complete(model: Any, report: LoadReport, files: WeightFiles, source: str) -> None:
    """Refuse a model of which a weight is not from its files; tell of tensors that it has no place for.

    Args:
        model: The model, loaded.
        report: What its loading found.
        files: What its files hold.
        source: The model, for messages.

    Raises:
        PolicyError: The message names the weights, or why none fits, and the remedy.
    """
    missing = _untied(model, report.missing)
    if missing:
        raise PolicyError(_lacking_message(missing, files.shapes, source))
    mismatched = sorted({*report.mismatched, *_repacked(model)})
    if mismatched:
        raise PolicyError(_mismatched_message(mismatched, source))
    _judge_unexpected(report.unexpected, files, source)


def explain_failure(model: Any, files: WeightFiles, source: str) -> str | None:
    """Return why a model could not be loaded, if its files say so; some versions only fall over what is missing.

    Args:
        model: The model without contents.
        files: What its files hold.
        source: The model, for the message.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    prefix = f"{model.base_model_prefix}."
    held = {name if name in own else prefix + name: shape for name, shape in files.shapes.items()}
    lacking = [name for name, _ in model.named_parameters() if name not in held]
    if misnamed(lacking, files.shapes):
        return _lacking_message(lacking, files.shapes, source)
    if not held.keys() <= own.keys():  # packed or split otherwise: names and shapes tell nothing
        return None
    if lacking:
        return _lacking_message(lacking, files.shapes, source)
    other = [
        name for name, shape in held.items() if name in own and own[name].shape != torch.Size(shape)
    ]
    return _mismatched_message(other, source) if other else None


def _lacking_message(missing: Collection[str], held: Collection[str], source: str) -> str:
    reason = misnamed(missing, held)
    if reason:
        return f"The weights of {source!r} would not be loaded: {reason}."
    return (
        f"The files of {source!r} lack {len(missing)} of its weights, which would stay random: {_some(missing)}; "
        "get the model's original files, or save the whole model again."
    )


def _mismatched_message(names: Collection[str], source: str) -> str:
    return (
        f"{len(names)} of the weights of {source!r} have another shape than its config.json asks for: "
        f"{_some(names)}; get the model's original files, config.json and weights of one version."
    )


def misnamed(missing: Iterable[str], held: Collection[str]) -> str | None:
    """Return why the files' names are not the model's, with the remedy; None if there is no such reason.

    Args:
        missing: Names of the model's weights that are not in its files.
        held: Names that are.
    """
    adapted = next((name for name in held if _ADAPTED.search(name)), None)
    if adapted:
        return (
            f"the files hold an adapter beside the model ({shorten(adapted)}); merge it with `merge_and_unload()` "
            "and save the model again"
        )
    prefix = _shared_prefix(missing, held)
    if prefix:
        return (
            f"their names begin with {prefix!r}, the prefix of a wrapper; save the model inside the wrapper "
            "(`_orig_mod` of a compiled model, `module` of a parallel one) with `save_pretrained`, or take the prefix "
            "off the names"
        )
    return None


def _shared_prefix(missing: Iterable[str], held: Collection[str]) -> str | None:
    """Return what a wrapper has put before, or into, the names in the files."""
    if not held:
        return None
    found = _WRAPPED.match(next(iter(held)))
    if found and all(name.startswith(found.group()) for name in held):
        return found.group()
    inside = next((found for name in held if (found := _INSIDE.search(name))), None)
    if inside:
        return inside.group()
    for name in missing:
        longer = next((one for one in held if one.endswith(f".{name}")), None)
        prefix = longer and longer.removesuffix(name)
        if prefix and all(one.startswith(prefix) for one in held):
            return prefix
    return None


def _untied(model: Any, missing: Iterable[str]) -> list[str]:
    """Return the missing weights that are not another name of one that is there."""
    missing = set(missing)
    named = model.named_parameters(remove_duplicate=False)
    there = {id(tensor) for name, tensor in named if name not in missing}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return sorted(name for name in missing if id(parameters.get(name)) not in there)


def _repacked(model: Any) -> Iterator[str]:
    """Yield quantised weights of another shape than their layer's: no version of transformers reports them."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            packed = getattr(module.weight, "quant_state", None)
            shape = module.weight.shape if packed is None else packed.shape
            if tuple(shape) != (module.out_features, module.in_features):
                yield f"{name}.weight"


def _judge_unexpected(unexpected: Collection[str], files: WeightFiles, source: str) -> None:
    if not unexpected:
        return
    left = sum(math.prod(files.shapes.get(name, ())) for name in unexpected)
    if 2 * left > sum(map(math.prod, files.shapes.values())):
        raise PolicyError(
            f"Most of the weights in the files of {source!r} have no place in the model that its config.json asks "
            f"for: {_some(unexpected)}; get the config.json that belongs to them."
        )
    logger.warning(
        "In the files of %r %d of the weights have no place in the model and are left out: %s. That is right for "
        "another task's head or parts for images.",
        source,
        len(unexpected),
        _some(unexpected),
    )


def _some(names: Collection[str]) -> str:
    """Return a few of the names, and the number of the others."""
    shown = [shorten(name, 120)[1:-1] for name in list(names)[:_NAMED]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
