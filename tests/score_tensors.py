"""Scores (K, B, G) of which some are absent."""

from __future__ import annotations

import math

import torch

NAN = math.nan


def rewards_with_gaps(seed: int, shape=(3, 4, 6), share: float = 0.2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(shape, generator=generator, dtype=torch.float64)
    values[torch.rand(shape, generator=generator) < share] = NAN
    return values
