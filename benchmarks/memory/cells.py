"""Lists the settings whose memory is estimated and measured."""

from __future__ import annotations

from typing import NamedTuple

from gdpo.settings import TrainSettings


class Cell(NamedTuple):
    """One setting.

    Attributes:
        model: One of `common.models.SHAPES`.
        precision: As in `load_policy`.
        prompts_per_step, group_size, max_new_tokens, micro_batch, gradient_checkpointing, optimizer: As in `TrainSettings`.
    """

    model: str
    precision: str
    prompts_per_step: int
    group_size: int
    max_new_tokens: int
    micro_batch: int
    gradient_checkpointing: bool
    optimizer: str = "adamw"

    @property
    def settings(self) -> TrainSettings:
        """Return settings of two steps."""
        chosen = self._asdict()
        del chosen["model"], chosen["precision"]
        return TrainSettings(steps=2, **chosen)


QUICK: tuple[Cell, ...] = (
    Cell("starter (4 M)", "fp32", 4, 4, 64, 16, False),
    Cell("SmolLM-135M", "fp32", 2, 2, 16, 4, False),
)
CELLS: tuple[Cell, ...] = (
    Cell("SmolLM-135M", "fp32", 2, 2, 16, 4, False),
    Cell("SmolLM-135M", "int8", 2, 2, 16, 4, False),
    Cell("SmolLM-135M", "nf4", 2, 2, 16, 4, False),
    Cell("SmolLM-135M", "bf16", 2, 2, 16, 4, False),
    Cell("SmolLM-135M", "fp32", 2, 2, 16, 4, True),
    Cell("SmolLM-135M", "fp32", 2, 2, 16, 1, False),
    Cell("SmolLM-135M", "fp32", 2, 2, 64, 4, False),
    Cell("starter (4 M)", "fp32", 4, 8, 64, 16, False),
    Cell("starter (4 M)", "fp32", 4, 8, 128, 32, False),
    Cell("starter (4 M)", "fp32", 4, 8, 128, 32, True),
    Cell("starter (4 M)", "bf16", 4, 8, 64, 32, False),
    Cell("Qwen2.5-0.5B", "fp32", 2, 2, 16, 4, False),
    Cell("Qwen2.5-0.5B", "nf4", 2, 2, 16, 4, False),
    Cell("Gemma-3-270M", "fp32", 2, 2, 16, 4, False),
    Cell("Gemma-3-270M", "fp32", 2, 2, 16, 4, True),
    Cell("Qwen2.5-0.5B", "bf16", 2, 2, 16, 4, False),
    Cell("Qwen2.5-0.5B", "fp32", 2, 2, 16, 4, True),
    Cell("SmolLM-135M", "fp32", 2, 8, 24, 16, False),
    Cell("starter (4 M)", "fp32", 4, 8, 64, 16, False, "natural"),
    Cell("SmolLM-135M", "fp32", 2, 8, 24, 16, False, "natural"),
    Cell("Qwen2.5-0.5B", "bf16", 2, 2, 16, 4, False, "natural"),
)
