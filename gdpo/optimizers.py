"""The selectable optimisers, with the constants that suit short runs on an adapter."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import TrainingError
from .libraries import needed

NATURAL = "natural"
OPTIMIZERS = (NATURAL, "adamw", "sgd", "adamw_8bit")
# beta2 0.99: a run has hundreds of steps, not the hundred thousands that 0.999 remembers.
_BETAS = (0.9, 0.99)


def make_optimizer(
    name: str, parameters: list[Tensor], learning_rate: float
) -> torch.optim.Optimizer:
    """The optimiser `name` of `OPTIMIZERS`, but the natural one, which is in `update.natural_state`.

    Raises:
        TrainingError: The name is unknown, or bitsandbytes is missing or broken.
    """
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=learning_rate, betas=_BETAS, weight_decay=0.0)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate)
    if name != "adamw_8bit":
        raise TrainingError(
            f"`optimizer` should be one of {', '.join(OPTIMIZERS)}. Found {name!r}."
        )
    with needed("bitsandbytes", "`optimizer` 'adamw_8bit'", TrainingError):
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportPrivateImportUsage]
    return AdamW8bit(parameters, lr=learning_rate, betas=_BETAS, weight_decay=0.0)
