"""What a step draws on: its prompts, its seeds, its learning rate, all from its number and the settings.

Nothing here has a state, so a resumed run needs none restored.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from ..prompts import Prompt


def draw(prompts: Sequence[Prompt], count: int, step: int, seed: int) -> list[Prompt]:
    """Return the prompts of `step`: each epoch goes through all of them in a shuffled order of its own."""
    chosen: list[Prompt] = []
    orders: dict[int, list[int]] = {}
    for index in range((step - 1) * count, step * count):
        epoch, place = divmod(index, len(prompts))
        if epoch not in orders:
            orders[epoch] = list(range(len(prompts)))
            random.Random(derive_seed(seed, "epoch", epoch)).shuffle(orders[epoch])
        chosen.append(prompts[orders[epoch][place]])
    return chosen


def derive_seed(seed: int, purpose: str, number: int) -> int:
    """Return a seed for one purpose and step: no generator's state has to survive from one step to the next."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def learning_rate(peak: float, step: int, warmup_steps: int) -> float:
    """Return a linear rise, then constant, so that a finished run can be made longer."""
    return peak * min(1.0, step / max(1, warmup_steps))
