"""The matrices of an adapter that are trained."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import TrainingError


def lora_linears(model: Any) -> list[Any]:
    """Return the A and B matrices of the adapter that is being trained, as the linear modules they are.

    Raises:
        TrainingError: Something else is trainable, whose gradient would be lost.
    """
    modules = [
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module.weight.requires_grad
        and (".lora_A." in name or ".lora_B." in name)
    ]
    ours = {id(module.weight) for module in modules}
    others = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in ours]
    if others or not modules:
        raise TrainingError(
            f"Only the A and B matrices of plain LoRA can be trained. Found {others[:1] or 'none'}; "
            "use an adapter without DoRA, bias or trained embeddings."
        )
    return modules
