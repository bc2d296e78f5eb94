"""What a step follows, and what it found."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """What one step follows.

    Attributes:
        advantages: Each reward's advantages, `(K, B, G)`.
        weights: Each reward's weight, `(K,)`.
        urgency: How far a natural step may go for them, 0 to 1: 1 while any reward lacks 0.3 of its way or more.
    """

    advantages: Tensor
    weights: Tensor
    urgency: float = 1.0


@dataclass(frozen=True)
class Direction:
    """What one step decided and found, for the record. `(K,)` and `(K, K)`."""

    weights: Tensor
    preferences: Tensor
    deficits: Tensor
    cosines: Tensor
    dispersion: float
    dispersion_reached: bool
