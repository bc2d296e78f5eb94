"""What an adapter's configuration may hold: a run folder may come from a stranger."""

from __future__ import annotations

import re
from typing import Any

from ..errors import PolicyError, shorten

_MAX_RANK = 4096
_MAX_TARGETS = 10_000
# What differs between honest LoRA adapters; peft's own default is required of everything else, since some of its
# options import modules by name, repeat layers or compile patterns.
_FREE = {
    *("base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type"),
    *("r", "lora_alpha", "target_modules"),
    "fan_in_fan_out",  # whether layers are transposed, as in GPT-2
}


def check_adapter_config(config: Any, where: str) -> dict[str, Any]:
    """Return the configuration, if it is that of a plain LoRA adapter, without entries that this peft does not know.

    Args:
        config: Content of `adapter_config.json`.
        where: Name of the folder in messages.

    Raises:
        PolicyError: It is of another kind, or asks for more than LoRA on some of a model's linear layers.
    """
    from peft import LoraConfig

    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else config
        raise PolicyError(
            f"Only LoRA adapters can be read; the peft_type in {where} is {shorten(kind)}: train again."
        )
    usual = LoraConfig().to_dict()
    odd = [
        key
        for key, value in config.items()
        if key not in {*_FREE, "peft_type"} and value and value != usual.get(key)
    ]
    odd += [key for key, fits in _sizes(config).items() if not fits]
    if odd:
        raise PolicyError(
            f"The adapter in {where} sets {odd[0]!r} to {shorten(config[odd[0]])}, which this pack does not train "
            "and does not trust; use a plain LoRA adapter."
        )
    return {key: value for key, value in config.items() if key in usual}


def _sizes(config: dict[str, Any]) -> dict[str, bool]:
    """Tell whether rank, alpha and targets are what they should be, by the key."""
    rank, alpha, targets = (config.get(key) for key in ("r", "lora_alpha", "target_modules"))
    return {
        "r": type(rank) is int and 0 < rank <= _MAX_RANK,
        "lora_alpha": isinstance(alpha, (int, float))
        and not isinstance(alpha, bool)
        and 0 < alpha <= 1e6,
        "fan_in_fan_out": config.get("fan_in_fan_out") in (None, False, True),
        # A text would be taken for a pattern.
        "target_modules": targets == "all-linear" or _are_names(targets),
    }


def _are_names(targets: object) -> bool:
    if not isinstance(targets, list) or not 0 < len(targets) <= _MAX_TARGETS:
        return False
    return all(isinstance(t, str) and re.fullmatch(r"[\w.]{1,200}", t) for t in targets)
