"""Which rows stand together in groups of equal size that share a prompt, however many have left."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor

# Of the slots, so many may be idle for the sake of larger groups.
_IDLE_SHARE = 0.125


class Grouping:
    """`count` groups of `size` slots. A slot holds a row, or repeats one of its group.

    Attributes:
        count, size: Number and size of the groups.
    """

    def __init__(
        self, count: int, size: int, rows: Tensor | None = None, slots: Tensor | None = None
    ) -> None:
        """Without `rows`, the row of each slot, and `slots`, the slot of each row, both are the same."""
        self.count, self.size = count, size
        self._rows, self._slots = rows, slots

    def spread(self, tokens: Tensor) -> Tensor:
        """Return what is given for each row, for each slot."""
        return tokens if self._rows is None else tokens[self._rows]

    def gather(self, x: Tensor) -> Tensor:
        """Return what is computed for each slot, for each row."""
        return x if self._slots is None else x[self._slots]


def regroup(before: Grouping, rows: Tensor) -> tuple[Grouping, Tensor]:
    """Groups for these rows of `before`, as large as few idle slots allow, and the old slot of each new one."""
    kept = before.gather(torch.arange(before.count * before.size, device=rows.device))[
        rows
    ].tolist()
    owned = [list(group) for _, group in groupby(kept, lambda slot: slot // before.size)]
    sizes = range(max(map(len, owned)), 0, -1)
    size = next(s for s in sizes if _slots(owned, s) * (1 - _IDLE_SHARE) <= len(kept))
    slots, row_of, slot_of = [], [], []
    for group in owned:
        for begin in range(0, len(group), size):
            chunk = group[begin : begin + size]
            first = len(slot_of)
            slot_of += range(len(slots), len(slots) + len(chunk))
            slots += chunk + chunk[-1:] * (size - len(chunk))
            row_of += [first + min(i, len(chunk) - 1) for i in range(size)]
    count = len(slots) // size
    tensor = lambda values: torch.tensor(values, device=rows.device)
    if len(slots) == len(kept):
        return Grouping(count, size), tensor(slots)
    return Grouping(count, size, tensor(row_of), tensor(slot_of)), tensor(slots)


def _slots(owned: list[list[int]], size: int) -> int:
    return sum(-(-len(group) // size) * size for group in owned)
