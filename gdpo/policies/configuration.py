"""A model's configuration: read from its folder, built without contents, and held against the files of weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..errors import PolicyError
from .compat import dtype_argument
from .folder_checks import check_model_folder
from .remedies import because
from .stranger import try_files
from .weight_files import WeightFiles, read_weight_files

# A head or an embedding that the files may lack, and tables that are computed: of this size at most.
_SLACK_WEIGHTS = 16 * 2**20
_TABLE_BYTES = 256 * 2**20
_SLACK_SHARE = 1.25


def read_config(folder: Path, poll: Callable[[], None] = lambda: None) -> Any:
    """Return the configuration of the model in `folder`, which its weights' files back.

    Args:
        folder: The model's folder.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        PolicyError: The folder holds no model that can be used.
    """
    from transformers import AutoConfig

    check_model_folder(folder)
    try_files(folder, str(folder), poll)
    try:
        config = AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        model = build(config, torch.float32)
    except Exception as error:  # of many classes
        why = because(f"{type(error).__name__}: {error}", folder, "get the model's original file")
        raise PolicyError(f"The config.json in {str(folder)!r} cannot be used{why}.") from error
    _check_backed(model, read_weight_files(folder), folder)
    return config


def build(config: Any, dtype: torch.dtype) -> Any:
    """Return the model of this configuration on the meta device, frozen."""
    import transformers

    config = copy.deepcopy(config)
    if hasattr(
        config, "quantization_config"
    ):  # of a loaded model; here the stand-ins take its place
        del config.quantization_config
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, **dtype_argument(dtype))
    return model.eval().requires_grad_(False)


def _check_backed(model: Any, files: WeightFiles, folder: Path) -> None:
    """Refuse a configuration that asks for more than the files hold: the rest would be made in memory."""
    wanted = sum(parameter.numel() for parameter in model.parameters())
    tables = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    if wanted > _SLACK_SHARE * files.weights + _SLACK_WEIGHTS:
        raise PolicyError(
            f"{str(folder / 'config.json')!r} asks for over {wanted:.1e} weights, but the files hold "
            f"{files.weights}; get the model's original files."
        )
    if tables > files.bytes + _TABLE_BYTES:
        raise PolicyError(
            f"{str(folder / 'config.json')!r} asks for tables of {tables:.1e} bytes beside its weights, at most "
            f"{_TABLE_BYTES} are made; get the model's original files."
        )
