"""Whether the model that was loaded again is the one in memory, which was trained: files are made of the former.

Everything else that verifies an export compares with the model loaded again, so that what memory alone held, weights
that no file gave for one, would be missing on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ExportError
from ..policies.chat import encode_texts
from ..policies.policy import Policy, attached
from ..polling import polled
from ..progress import Progress
from .material import PROBE_TOKENS, PROBES

# Largest share of the logits' variance that rounding may change, by the precision in memory. Measured on a trained
# model of 3 million weights and on random ones, which lose the most: bf16 1e-4, fp16 2e-6, int8 1e-3, nf4 0.1. One
# exchanged matrix among 14 changes 0.07 to 0.4.
LIMITS = {"fp32": 1e-4, "fp16": 1e-3, "bf16": 5e-3, "int8": 0.02, "nf4": 0.3}


def probe_policy(policy: Policy, progress: Progress) -> list[Tensor]:
    """Return the policy's logits, `(positions, V)` float32, for a few general texts."""
    with attached(policy) as model:
        return probe_model(model, policy, progress)


@torch.no_grad()
def probe_model(model: Any, policy: Policy, progress: Progress) -> list[Tensor]:
    """Return a model's logits for the same texts, as the policy's tokenizer reads them."""
    logits = []
    with polled(model, progress.poll):
        for ids in encode_texts(policy.base.tokenizer, PROBES):
            tokens = torch.tensor([ids[:PROBE_TOKENS]], device=model.device)
            logits.append(model(input_ids=tokens, use_cache=False).logits[0].float().cpu())
    return logits


def check_reloaded(
    trained: Sequence[Tensor], reloaded: Sequence[Tensor], policy: Policy, precision: str
) -> None:
    """Refuse a model that was loaded again and is another than the one that was trained.

    Args:
        trained: Logits of the model in memory, from `probe_policy`.
        reloaded: Those of the model that was loaded again.
        policy: The policy in memory.
        precision: Precision of the model that was loaded again.

    Raises:
        ExportError: They differ by more than rounding.
    """
    share = unexplained(trained, reloaded)
    if not share <= max(LIMITS[policy.base.precision], LIMITS[precision]):
        raise ExportError(
            f"The model in memory, which was trained, is not the one in the files of {policy.base.source!r}: "
            f"{share:.2g} of the variance of its logits differs; load the model again and train it."
        )


def unexplained(trained: Sequence[Tensor], reloaded: Sequence[Tensor]) -> float:
    """Return the share of the logits' variance over the vocabulary that differs: 0 if equal, 2 if unrelated."""
    difference = total = 0.0
    for one, other in zip(trained, reloaded, strict=True):
        one, other = (x.double() - x.double().mean(-1, keepdim=True) for x in (one, other))
        difference += float((one - other).square().sum())
        total += float(one.square().sum())
    return difference / total if total else float(difference > 0)
