"""RMSNorms read from a model as plain tensors, and computed in few operations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class OtherShapeError(Exception):
    """The model is not Llama-shaped; never leaves the package."""


@dataclass(frozen=True)
class Norm:
    """RMSNorm: `gain`, `(d,)` or `(heads, d)`, is what the normalised vector is multiplied with."""

    gain: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Return the normalised `x`."""
        if self.gain.dim() == 1:
            if x.dtype == torch.float32 and x.device.type == "cpu":
                return self._quick(x)
            return F.rms_norm(x, self.gain.shape, self.gain, self.eps)
        return F.rms_norm(x, self.gain.shape[-1:], None, self.eps) * self.gain

    def _quick(self, x: Tensor) -> Tensor:
        """Return the same in half as many operations: x / sqrt(|x|^2 + d eps) * sqrt(d) gain."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x.div(torch.hypot(length, self._floor)).mul_(self._gain)

    @cached_property
    def _floor(self) -> Tensor:
        return torch.tensor((len(self.gain) * self.eps) ** 0.5)

    @cached_property
    def _gain(self) -> Tensor:
        return self.gain * len(self.gain) ** 0.5


def read_norm(module: Any) -> Norm:
    """Return what the module does to a vector, found by trying: some multiply with the weight, some with 1 + weight."""
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    weight = getattr(module, "weight", None)
    if eps is None or weight is None:
        raise OtherShapeError("norm")
    if weight.is_meta:  # nothing to try
        return Norm(weight, eps)
    probe = torch.linspace(-1, 2, len(weight), device=weight.device, dtype=weight.dtype)[None]
    wanted = module(probe)
    for gain in (weight, 1.0 + weight):
        found = Norm(gain.detach(), eps)
        if torch.allclose(found(probe), wanted, rtol=2e-2 if weight.itemsize < 4 else 1e-5):
            return found
    raise OtherShapeError("norm")


def read_heads_norm(attention: Any, config: Any, order: Tensor | None) -> Norm | None:
    """Return the norms of queries and keys as one, their heads in `order`; None where there are none."""
    if not hasattr(attention, "q_norm"):
        return None
    queries, keys = read_norm(attention.q_norm), read_norm(attention.k_norm)
    dim = attention.head_dim
    if queries.gain.shape != (dim,) or keys.gain.shape != (dim,) or queries.eps != keys.eps:
        raise OtherShapeError("head norms")
    gains = (
        queries.gain.expand(config.num_attention_heads, dim),
        keys.gain.expand(config.num_key_value_heads, dim),
    )
    gain = torch.cat(gains)
    return Norm(gain if order is None else gain[:, order], queries.eps)
