"""Two batches of completions as one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .rollouts import Rollouts


def joined(first: Rollouts, second: Rollouts) -> Rollouts:
    """Return the completions of both, the first ones first, padded to the longest prompt and completion."""
    entropy = None
    if first.entropy is not None and second.entropy is not None:
        entropy = _right(first.entropy, second.entropy)
    return Rollouts(
        _left(first.prompt_ids, second.prompt_ids),
        _left(first.prompt_mask, second.prompt_mask),
        _right(first.completion_ids, second.completion_ids),
        _right(first.completion_mask, second.completion_mask),
        _right(first.logprobs, second.logprobs),
        first.completions + second.completions,
        entropy,
    )


def _left(one: Tensor, other: Tensor) -> Tensor:
    width = max(one.shape[1], other.shape[1])
    return torch.cat([pad(part, (width - part.shape[1], 0)) for part in (one, other)])


def _right(one: Tensor, other: Tensor) -> Tensor:
    width = max(one.shape[1], other.shape[1])
    return torch.cat([pad(part, (0, width - part.shape[1])) for part in (one, other)])
