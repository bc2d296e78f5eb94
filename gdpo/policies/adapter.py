"""LoRA adapters as plain data: read off a model, put onto it, kept in peft's two standard files."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import PolicyError
from ..plain_files import check_plain, read_text
from ..to_json import to_json
from .adapter_checks import check_adapter_config
from .compat import without_renaming_warning
from .targets import find_targets

_ADAPTER_FILE = "adapter_model.safetensors"
_ALL = "all-linear"


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter as plain data: peft's configuration as JSON, and its tensors on the CPU."""

    config: dict[str, Any]
    state: dict[str, torch.Tensor]


def read_adapter(model: Any) -> Adapter:
    """Copy the adapter that is on `model` to the CPU."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    config = model.peft_config["default"].to_dict()
    return Adapter(to_json(config), {k: v.detach().cpu().clone() for k, v in state.items()})


def save_adapter(adapter: Adapter, folder: Path) -> None:
    """Write peft's two standard files into `folder`, so that any peft program can load them."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(adapter.config, indent=2, sort_keys=True)
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    save_file(adapter.state, folder / _ADAPTER_FILE)


def load_adapter(folder: Path) -> Adapter:
    """Read an adapter from peft's two standard files.

    Raises:
        PolicyError: A file is missing or damaged, or the adapter is more than plain LoRA.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads(read_text(folder / "adapter_config.json"))
        check_plain(folder / _ADAPTER_FILE)
        state = load_file(folder / _ADAPTER_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise PolicyError(
            f"The adapter in {str(folder)!r} cannot be read ({error}); train again or restore the folder."
        ) from error
    return Adapter(check_adapter_config(config, repr(str(folder))), state)


def fresh_config(rank: int, alpha: int) -> dict[str, Any]:
    """Configuration of a new adapter on all linear layers that can be trained, as plain JSON; `wrap` finds them."""
    from peft import LoraConfig

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=_ALL,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    return to_json(config.to_dict())


def wrap(model: Any, config: dict[str, Any]) -> Any:
    """Return the model with an adapter of this configuration on it.

    Raises:
        PolicyError: The architecture takes none.
    """
    from peft import PeftConfig, get_peft_model

    if (
        config["target_modules"] == _ALL
    ):  # peft's own choice holds layers that the training does not see
        config = {**config, "target_modules": find_targets(model)}
    # The model's own folder: an adapter that was trained elsewhere may name another path.
    config = {**config, "base_model_name_or_path": model.name_or_path}
    with without_renaming_warning():
        # peft sets it right by itself for the transposed layers of GPT-2
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to")
        try:
            return get_peft_model(model, PeftConfig.from_peft_type(**config))
        except ValueError as error:
            raise PolicyError(
                f"LoRA cannot be put on {model.config.model_type!r} models ({' '.join(str(error).split())}); use "
                "another model."
            ) from error


def innermost(model: Any) -> Any:
    """Return the model without its adapter's shell; the adapted layers stay in it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def decoder_of(inner: Any) -> Any:
    """Return the part of a model without its shell that makes states of tokens.

    The answer of transformers is the whole model for some families and their output layer for others.
    """
    found = inner.get_decoder()
    return inner.model if found in (inner, inner.get_output_embeddings()) else found


def unwrap(model: Any) -> None:
    """Take the adapter off the model that `wrap` put it on."""
    base = model.unload()
    if hasattr(base, "peft_config"):  # peft leaves it behind and would warn at the next adapter
        del base.peft_config
    base.requires_grad_(False)


def write_adapter(model: Any, adapter: Adapter) -> None:
    """Copy `adapter` into the adapter that is on `model`.

    Raises:
        PolicyError: It belongs to another model.
    """
    from peft import set_peft_model_state_dict

    result = set_peft_model_state_dict(model, adapter.state)
    missing = [key for key in result.missing_keys if "lora_" in key]
    if missing or result.unexpected_keys:
        key = (missing or result.unexpected_keys)[0]
        raise PolicyError(
            f"The adapter does not fit this model (first difference: {key!r}); "
            "load the base model that it was trained on."
        )
