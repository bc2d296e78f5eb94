"""What a step draws on: its prompts, its seeds, its learning rate, all from its number and the settings.

Nothing here has a state, so a resumed run needs none restored; what a run that went on with other prompts had drawn
until then is in its `run.json`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..prompts import Prompt
from ..runs.order import Order, derive_seed

__all__ = ["derive_seed", "draw", "learning_rate"]


def draw(
    prompts: Sequence[Prompt], count: int, step: int, seed: int, order: Order | None = None
) -> list[Prompt]:
    """Return the prompts of `step`: each epoch goes through all of them in a shuffled order of its own.

    Args:
        prompts: All prompts.
        count: Prompts of a step.
        step: Number of the step, from 1.
        seed: The run's seed.
        order: The run's order, where it has a past with other prompts.
    """
    order = order or Order(len(prompts), seed)
    return [prompts[place] for place in order.places((step - 1) * count, count)]


def learning_rate(peak: float, step: int, warmup_steps: int) -> float:
    """Return a linear rise, then constant, so that a finished run can be made longer."""
    return peak * min(1.0, step / max(1, warmup_steps))
