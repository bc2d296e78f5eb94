"""Names and shapes of the tensors that a merged model is saved with, known without its weights."""

from __future__ import annotations

import copy
from typing import Any

import torch


def outline(model: Any) -> dict[str, list[int]]:
    """Return the shape of each tensor that saving `model` in full precision writes, by its name in the file.

    Nothing is returned where this version of transformers does not tell, or the model cannot be built without memory.

    Args:
        model: The loaded model, which may be quantised; its weights are not touched.
    """
    try:
        from transformers.core_model_loading import revert_weight_conversion
        from transformers.modeling_utils import remove_tied_weights_from_state_dict
    except (
        ImportError
    ):  # before 5, where names are those of the modules, and ties are found by the weights alone
        return {}
    try:
        empty = _without_weights(model)
        state = remove_tied_weights_from_state_dict(empty.state_dict(), empty)
        state = revert_weight_conversion(empty, state)
    except Exception:  # noqa: BLE001  models of any kind; what is not known now is found by the conversion
        return {}
    return {name: list(tensor.shape) for name, tensor in state.items()}


def _without_weights(model: Any) -> Any:
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        empty = type(model)(config)
    empty.tie_weights()
    # How the file that the model was loaded from names its tensors.
    empty._weight_conversions = getattr(model, "_weight_conversions", None)
    return empty
