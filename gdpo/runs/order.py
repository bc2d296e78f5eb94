"""The order in which a run draws its rows, and what has been drawn so far.

Each epoch goes through all rows in a shuffled order of its own, which follows from the seed, the number of the epoch
and the number of rows. So a run needs no state for it, as long as its rows are those that it began with. A run that goes
on with other rows keeps what was drawn until then: the epoch that it is in goes on with the rows of today that it has
not drawn yet, and later epochs with all rows of today.

Rows are known by their sums here, see `differences.digest_rows`.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Drawn:
    """What a run has drawn so far.

    Attributes:
        rows: Sum of each row, in the order in which they were drawn.
        epoch: Number of the epoch that the last of them belongs to, from 0.
        begun: How many were drawn before that epoch.
    """

    rows: tuple[str, ...] = ()
    epoch: int = 0
    begun: int = 0


class Order:
    """Where each drawn row of a run is among the rows of today."""

    def __init__(
        self, size: int, seed: int, rows: Sequence[str] = (), past: Drawn | None = None
    ) -> None:
        """Say what the order follows from.

        Args:
            size: Number of rows, at least 1.
            seed: Seed of the run.
            rows: Sums of the rows, in their order; needed only with a past.
            past: What was drawn from other rows, all of it still among the rows of today.
        """
        self._size, self._seed = size, seed
        self._past = past or Drawn()
        self._first = past.epoch + 1 if past else 0  # epoch of which all rows of today are drawn
        self._drawn, self._rest = _from_past(size, seed, rows, past) if past else ([], [])

    def places(self, first: int, count: int) -> list[int]:
        """Return the places, from 0, of the rows that are drawn as number `first` to `first + count - 1`."""
        return [self._place(number) for number in range(first, first + count)]

    def drawn(self, rows: Sequence[str], count: int) -> Drawn:
        """Return what the first draws are.

        Args:
            rows: Sums of the rows of today, in their order.
            count: Number of draws, at least as many as the past has.
        """
        places = self.places(0, count)
        epoch, begun = self._first - 1, self._past.begun
        later = count - len(self._drawn) - len(self._rest)
        if later > 0:
            epochs = -(-later // self._size)  # the last one has begun
            epoch += epochs
            begun = count - later + (epochs - 1) * self._size
        return Drawn(tuple(rows[place] for place in places), epoch, begun)

    def _place(self, number: int) -> int:
        if number < len(self._drawn):
            return self._drawn[number]
        number -= len(self._drawn)
        if number < len(self._rest):
            return self._rest[number]
        epoch, place = divmod(number - len(self._rest), self._size)
        return shuffled(self._size, self._seed, self._first + epoch)[place]


def _from_past(
    size: int, seed: int, rows: Sequence[str], past: Drawn
) -> tuple[list[int], list[int]]:
    """Return the places of what was drawn, and of what is left of the epoch that it ended in."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row, []).append(place)
    # Rows of one content are one and the same: which of them was drawn makes no difference.
    drawn = [places[row][0] for row in past.rows]
    used = Counter(past.rows[past.begun :])
    rest = []
    for place in shuffled(size, seed, past.epoch):
        if used[rows[place]] > 0:
            used[rows[place]] -= 1
        else:
            rest.append(place)
    return drawn, rest


@lru_cache(maxsize=2)
def shuffled(size: int, seed: int, epoch: int) -> tuple[int, ...]:
    """Return the order of one epoch."""
    order = list(range(size))
    random.Random(derive_seed(seed, "epoch", epoch)).shuffle(order)
    return tuple(order)


def derive_seed(seed: int, purpose: str, number: int) -> int:
    """Return a seed for one purpose and step: no generator's state has to survive from one step to the next."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
