"""What would make a training fit that does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..errors import PolicyError
from ..settings import TrainSettings
from .estimation import estimate
from .need import MemoryEstimate, show


def find_remedy(
    config: Any, settings: TrainSettings, *, precision: str, **facts: Any
) -> tuple[str, MemoryEstimate] | None:
    """Return the first of some changes, mild ones first, with which the training fits: its words and its estimate.

    Args:
        config: The model's configuration, as for `estimate`.
        settings: Settings that do not fit.
        precision: Precision of the weights.
        facts: The other arguments of `estimate`.

    Returns:
        None where nothing helps.
    """
    for changes in _remedies(settings, precision):
        inner = {key: value for key, value in changes.items() if key != "precision"}
        found = estimate(
            config,
            replace(settings, **inner),
            precision=changes.get("precision", precision),
            **{**facts, "loaded": facts.get("loaded", False) and "precision" not in changes},
        )
        if found.fits:
            words = ", ".join(f"{key} {_word(value)}" for key, value in changes.items())
            return words, found
    return None


def explain_shortage(config: Any, settings: TrainSettings, **facts: Any) -> str:
    """In one line what a training needs and what would make it fit; arguments as for `estimate`."""
    mild = "lower max_new_tokens or group_size, or load the model in nf4"
    try:
        needed = estimate(config, settings, **facts).brief()
        remedy = find_remedy(config, settings, **facts)
    except PolicyError:
        return mild
    if remedy is None:
        return f"{needed}; close other programs, {mild}"
    return f"{needed}; it would fit with {remedy[0]} ({show(remedy[1].total)})"


def _remedies(settings: TrainSettings, precision: str) -> Iterator[dict[str, Any]]:
    """Yield changes, each with all of the one before: smaller passes, checkpointing, fewer and shorter completions, 4 bits."""
    changes: dict[str, Any] = {}
    size = settings.micro_batch
    for smaller in sorted({max(1, size // 4), 1} - {size}, reverse=True):
        changes = {**changes, "micro_batch": smaller}
        yield changes
    if not settings.gradient_checkpointing:
        changes = {**changes, "gradient_checkpointing": True}
        yield changes
    if settings.group_size > 4:
        changes = {**changes, "group_size": 4}
        yield changes
    if settings.max_new_tokens > 64:
        changes = {**changes, "max_new_tokens": settings.max_new_tokens // 2}
        yield changes
    if precision != "nf4":
        yield {"precision": "nf4"}
        yield {**changes, "precision": "nf4"}


def _word(value: object) -> str:
    return "on" if value is True else str(value)
