"""SA-MRPO (arXiv 2608.16072): published GDPO, a reward counts less the nearer it is to its best."""

from __future__ import annotations

from torch import Tensor

from .advantages import decoupled

# SA-MRPO's exponent: the best average of those compared in its table 4.
_SATURATION_EXPONENT = 0.5


def saturations(rewards: Tensor, lows: Tensor, ranges: Tensor) -> Tensor:
    """Tell how much of its range each reward has reached, s_k = (batch mean of r_k - min) / (max - min), `(K,)` in [0, 1].

    A reward that scored nothing counts as at its minimum.
    """
    means = rewards.flatten(1).nanmean(1)
    return ((means - lows) / ranges).clamp(0, 1).nan_to_num(0.0)


def saturation_aware(rewards: Tensor, lows: Tensor, ranges: Tensor) -> Tensor:
    """Return each reward's part in SA-MRPO's advantage before `batch_std`, `(K, B, G)`.

    Part k is (1 - s_k)^0.5 A_ki with A of `decoupled` and s of `saturations`: a reward counts less the nearer it
    is to the best it can be (arXiv 2608.16072, section 4.1, equation 1; exponent: section 5.5). The paper's
    standard deviations divide by G, not by G - 1 as those of published GDPO; the common factor drops out in the
    batch normalisation that follows.

    Args:
        rewards: `(K, B, G)`.
        lows: Lower bound of each reward, `(K,)`.
        ranges: Width of each reward's range, `(K,)`.
    """
    room = (1 - saturations(rewards, lows, ranges)) ** _SATURATION_EXPONENT
    return room[:, None, None] * decoupled(rewards)
