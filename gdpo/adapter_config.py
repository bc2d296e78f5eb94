"""The settings in a saved adapter, which peft would follow: some of them name modules, files and other models."""

from __future__ import annotations

from typing import Any

from .errors import PolicyError, shorten

# What an adapter of this pack may say for itself: its size, its layers, and where it comes from.
_OWN = {
    *("r", "lora_alpha", "target_modules", "base_model_name_or_path", "revision", "inference_mode"),
    *("peft_version", "megatron_core"),  # the latter is a default, and nothing without `megatron_config`
}


def check_adapter_config(config: object, fresh: dict[str, Any], where: str) -> dict[str, Any]:
    """Refuse settings that no adapter of this pack has; peft imports a module by one of them.

    Args:
        config: The content of adapter_config.json.
        fresh: The settings of a new adapter.
        where: The adapter's folder, for the message.

    Returns:
        The settings.

    Raises:
        PolicyError: The message names the setting.
    """
    if not isinstance(config, dict):
        raise PolicyError(
            f"The adapter_config.json in {where!r} should hold a JSON object. Found {shorten(config)}; restore the file."
        )
    for key, value in config.items():
        # Newer versions of peft have more settings, which are empty as long as nobody uses them.
        if key not in _OWN and value and value != fresh.get(key):
            raise PolicyError(
                f"The adapter in {where!r} was not written by this pack: its {shorten(key)} is {shorten(value)}; "
                "train again or restore the folder."
            )
    return config
