"""What Load Model and GDPO Train tell about memory before they take it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ...gdpo.errors import PolicyError, TrainingError
from ...gdpo.memory import (
    MemoryEstimate,
    config_weight_bytes,
    estimate,
    find_remedy,
    free_memory,
    show,
)
from ...gdpo.objective.objective import Objective
from ...gdpo.policies.configuration import read_config
from ...gdpo.policies.policy import Policy
from ...gdpo.policies.sources import find_folder, naming_source
from ...gdpo.settings import TrainSettings
from ...gdpo.training.fitting import PromptTokens

logger = logging.getLogger(__name__)


def before_loading(
    source: Path | str,
    precision: str,
    device: str,
    *,
    allow_download: bool = False,
    poll: Callable[[], None] = lambda: None,
) -> str:
    """Return the weights against what is free.

    Args:
        source: The model's folder or GGUF file, or a hub id, whose files are fetched first if that is allowed: on
            the disk they take no memory yet, and are checked before anything is read from them.
        precision: Precision of the weights.
        device: "auto", "cpu" or a CUDA device.
        allow_download: True if a hub id that is not in the cache may be fetched.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        PolicyError: The folder holds no model that can be used, or the device could not hold the weights even if nothing else were on it.
    """
    try:
        folder = find_folder(str(source), allow_download, poll)
    except PolicyError as error:
        return str(error)  # loading will say it again
    with naming_source(source, folder):
        config = read_config(folder, poll)
    try:
        weights, precision, device = config_weight_bytes(config, precision, device)
    except PolicyError as error:
        return str(error)
    free, capacity = free_memory(device)
    if weights > capacity:
        raise PolicyError(
            f"The weights of {_name(source)!r} need {show(weights)} in {precision}, and {device} has "
            f"{show(capacity)} in all; choose nf4 or a smaller model."
        )
    left = free - weights
    then = f"leaves {show(left)}" if left > 0 else "which is not enough: choose nf4 or free memory"
    return f"weights: {show(weights)} in {precision}, of {show(free)} free on {device}; {then}"


def _name(source: Path | str) -> str:
    return source.name if isinstance(source, Path) else source


def before_training(
    policy: Policy,
    tokens: PromptTokens,
    heldout: int,
    objective: Objective,
    settings: TrainSettings,
    poll: Callable[[], None] = lambda: None,
) -> tuple[str, str]:
    """Return a line on what the training needs, or on what to change where it does not fit; and the table.

    Args:
        policy: Start of the training.
        tokens: Lengths of the prompts.
        heldout: Number of held-out prompts.
        objective: The rewards and the method.
        settings: Settings of the training.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        TrainingError: The device could not hold it even if nothing else were on it.
    """
    base = policy.base
    facts = {
        "rewards": len(objective.rewards),
        "precision": base.precision,
        "device": base.device,
        "prompt_tokens": tokens.longest,
        "shortest_prompt": tokens.shortest,
        "heldout": heldout,
        "tokens": len(base.tokenizer),
        "adapter": policy.adapter.config if policy.adapter else None,
        "loaded": True,
        "poll": poll,
    }
    try:
        needed = estimate(base.model.config, settings, **facts)
        if needed.fits:
            return needed.brief(), needed.table()
        advice = _advise(base.model.config, settings, needed, facts)
    except PolicyError as error:
        logger.warning("%s", error)
        return str(error), str(error)
    if needed.total > needed.capacity:
        raise TrainingError(f"The training does not fit: {needed.brief()}; {advice}.")
    logger.warning("Memory may run out: %s; %s.", needed.brief(), advice)
    line = f"memory may run out: {advice}"
    return line, f"{line}\n{needed.table()}"


def _advise(config: object, settings: TrainSettings, needed: MemoryEstimate, facts: dict) -> str:
    found = find_remedy(config, settings, **facts)
    if found is None:
        return "close other programs, or choose a smaller model"
    words, smaller = found
    return f"it fits with {words} ({show(smaller.total)} instead of {show(needed.total)})"
