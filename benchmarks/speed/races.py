"""Lists the races of the sampling engines: models, batches and lengths."""

from __future__ import annotations

from dataclasses import dataclass

STARTER = "starter"


@dataclass(frozen=True)
class Race:
    """Batches of one model at one length, all engines in turns.

    Attributes:
        model: The starter, or one of `common.models.SHAPES` with random weights.
        batches: Completions at a time.
        new_tokens: Length of each completion.
        rounds: Number of rounds, of which the median counts.
    """

    model: str
    batches: tuple[int, ...]
    new_tokens: int
    rounds: int


RACES = (
    Race(STARTER, (1, 8, 32, 64), 48, 3),
    Race(STARTER, (32,), 64, 3),
    Race(STARTER, (32,), 256, 2),
    Race(STARTER, (32,), 512, 2),
    Race("SmolLM-135M", (1, 8, 32), 24, 2),
)
QUICK = (Race(STARTER, (32,), 48, 2),)
LEFT_OUT = {
    "sampling: random weights at other lengths, and Qwen2.5-0.5B": "minutes a cell on a CPU",
}
