"""Projects a combination of gradients off those that it would push back. `(K,)` and `(K, K)`, float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def project(gramian: Tensor, start: Tensor, faces: Sequence[int], least: Tensor) -> Tensor:
    """Return the nearest vector to `start` whose inner product with gradient i is at least least_i, for i in `faces`.

    Vectors are given in coordinates of the K gradients, x = sum_k x_k g_k, so that distances and inner products
    need the Gramian M alone. The solution is start + lambda with lambda >= 0 on `faces` and 0 elsewhere, where
    lambda solves the dual: min 1/2 lambda' M lambda + lambda' (M start - least).

    Args:
        gramian: M, positive definite on `faces`, `(K, K)`.
        start: Coordinates of the vector, `(K,)`.
        faces: Gradients that are protected; none of them vanishes.
        least: Smallest allowed value of each inner product, `(K,)`.

    Returns:
        Coordinates of the projected vector, `(K,)`.
    """
    from qpsolvers import solve_qp

    slopes = (gramian @ start - least)[faces]
    if not len(faces) or bool((slopes >= 0).all()):
        return start.clone()
    # In units of the gradients' lengths, so that the solver's tolerance means the same for long and short ones.
    lengths = gramian.diagonal()[faces].sqrt()
    matrix = gramian[faces][:, faces] / (lengths[:, None] * lengths)
    found = solve_qp(
        matrix.numpy(), (slopes / lengths).numpy(), lb=np.zeros(len(faces)), solver="quadprog"
    )
    if found is None:
        raise ArithmeticError("quadprog found no solution of a strictly convex problem")
    moved = start.clone()
    moved[faces] += torch.from_numpy(found).clamp(min=0) / lengths
    return moved
