"""The precisions that a model can be loaded in, the devices that it can work on, and the dtype of its weights there."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import PolicyError

PRECISIONS = ("auto", "bf16", "fp16", "fp32", "int8", "nf4")
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_QUANTISED = {"int8", "nf4"}


def resolve_device(device: str) -> str:
    """Return the device that "auto" stands for, or the named one, checked.

    Raises:
        PolicyError: There is no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.split(":")[0] not in {"cpu", "cuda"}:
        raise PolicyError(f"`device` should be auto, cpu or cuda. Found {device!r}.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise PolicyError(
            f"`device` is {device!r} but torch sees no CUDA card; choose auto or cpu."
        )
    return device


def resolve_precision(precision: str, device: str) -> str:
    """Return the precision that "auto" stands for on this device, or the named one, checked.

    Raises:
        PolicyError: There is no such precision.
    """
    if precision not in PRECISIONS:
        raise PolicyError(
            f"`precision` should be one of {', '.join(PRECISIONS)}. Found {precision!r}."
        )
    if is_quantised(precision):
        try:
            import bitsandbytes  # noqa: F401
        except ImportError as error:
            raise PolicyError(
                f"`precision` {precision!r} needs bitsandbytes, which is not installed: "
                "run `pip install bitsandbytes`, or choose bf16."
            ) from error
    if precision != "auto":
        return precision
    if device == "cpu":
        return "fp32"  # bf16 matrix products are slower than fp32 on most CPUs
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def is_quantised(precision: str) -> bool:
    """Tell whether bitsandbytes packs the weights of this precision."""
    return precision in _QUANTISED


def weights_dtype(precision: str, device: str) -> torch.dtype:
    """Return the dtype of the activations, and of weights that are not packed.

    Args:
        precision: Name from `PRECISIONS`, but not "auto".
        device: Device that the model works on.
    """
    return _DTYPES.get(precision, torch.float32 if device == "cpu" else torch.bfloat16)


def has_int8_layers(model: Any) -> bool:
    """Tell whether a layer of the model rounds its inputs to 8 bits, as those of LLM.int8 do.

    The layers are known by their class's name, so that bitsandbytes need not be imported.
    """
    return any(type(module).__name__ == "Linear8bitLt" for module in model.modules())
