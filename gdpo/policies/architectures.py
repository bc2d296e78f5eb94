"""The class that a configuration says the model is of: other programs choose by it what they run.

Transformers loads by `model_type` and never looks at `architectures`; llama.cpp's converter takes the first of them,
and that of a nested part before it. So a file can say one thing to the training and another to the export.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import PolicyError, shorten
from .named_code import entries_in


def check_architectures(config: dict[str, Any], model: Any, source: str) -> None:
    """Refuse a configuration whose first architecture, at the top or in a part, is not of the loaded model's kind.

    Args:
        config: The content of config.json.
        model: What transformers loaded by it.
        source: The model, for the message.

    Raises:
        PolicyError: The message names the architecture and the remedy.
    """
    own, known = type(model).__name__, _known(model, config)
    for names in _all_architectures(config):
        first = names[0] if isinstance(names, list) and names else names
        if names in (None, []) or (isinstance(first, str) and first in {own, *known}):
            continue
        raise PolicyError(
            f"config.json of {source!r} names {shorten(first)} as architecture, but the model is a {own}; set "
            f'`architectures` to ["{own}"], or get the model\'s original file.'
        )


def _all_architectures(config: dict[str, Any]) -> Iterator[object]:
    return (value for key, value in entries_in(config) if key == "architectures")


def _known(model: Any, config: dict[str, Any]) -> set[str]:
    """Return names of transformers' classes for the kinds of model that the loaded one is made of."""
    from transformers.models.auto import modeling_auto

    kinds = {config.get("model_type"), *_kinds(model.config)}
    tables = [
        table for name, table in vars(modeling_auto).items() if name.endswith("MAPPING_NAMES")
    ]
    names = {
        table[kind] for table in tables for kind in kinds if isinstance(kind, str) and kind in table
    }
    return {one for name in names for one in ([name] if isinstance(name, str) else name)}


def _kinds(config: Any) -> Iterator[str]:
    """Yield the model types of a loaded configuration and of its parts."""
    yield config.model_type
    for part in vars(config).values():
        if hasattr(part, "model_type"):
            yield part.model_type
