"""The settings of a training, each with its unit, its effect and its limits."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import TrainingError
from .optimizers import NATURAL, OPTIMIZERS
from .options import check_options, option


@dataclass(frozen=True)
class TrainSettings:
    """How a policy is trained. Refused when made if a value is not allowed."""

    steps: int = option(
        200, "Optimiser steps. Raising it later continues the run.", minimum=1, maximum=1_000_000
    )
    prompts_per_step: int = option(8, "Prompts drawn for each step.", minimum=1, maximum=4096)
    group_size: int = option(
        8,
        "Completions sampled for each prompt and compared with each other. More give a clearer signal "
        "and cost time; 8 to 16 is usual.",
        minimum=2,
        maximum=256,
    )
    max_new_tokens: int = option(
        128,
        "Longest completion, in tokens; longer ones are cut and marked truncated.",
        minimum=1,
        maximum=32768,
    )
    temperature: float = option(
        1.0, "Of the sampling: higher explores more.", minimum=0.05, maximum=5.0, step=0.05
    )
    learning_rate: float = option(
        1e-4,
        "Size of an optimiser step, but for the natural one, which has step_size. Lower it when rewards swing.",
        minimum=1e-8,
        maximum=1.0,
        step=1e-6,
    )
    lora_rank: int = option(
        16,
        "Rank of the LoRA adapter: its capacity. 8 to 32 is enough for RL.",
        minimum=1,
        maximum=1024,
    )
    lora_alpha: int = option(32, "LoRA's scale is alpha / rank.", minimum=1, maximum=4096)
    warmup_steps: int = option(
        5, "Steps over which the steps grow to their full size.", minimum=0, maximum=100_000
    )
    optimizer: str = option(
        NATURAL,
        "natural measures a step by how far it changes the policy and needs no learning rate; adamw is the usual one; "
        "adamw_8bit needs bitsandbytes and saves memory; sgd has no state.",
        choices=OPTIMIZERS,
    )
    max_grad_norm: float = option(
        1.0,
        "Longer gradients are shortened to this norm; the natural step has step_size instead.",
        minimum=1e-3,
        maximum=1e6,
        step=0.1,
    )
    micro_batch: int = option(
        16,
        "Completions of full length in one backward pass, more of shorter ones. Lower it when memory runs out; the "
        "result is the same.",
        minimum=1,
        maximum=4096,
    )
    gradient_checkpointing: bool = option(
        False,
        "Saves memory in the update by computing activations twice; about a third slower there.",
    )
    kl_coeff: float = option(
        0.0,
        "Pull towards the base model (KL divergence); 0 is off.",
        minimum=0.0,
        maximum=100.0,
        step=0.01,
    )
    eval_every: int = option(
        10,
        "Steps between evaluations on the held-out prompts; 0: only after the last.",
        minimum=0,
        maximum=1_000_000,
    )
    checkpoint_every: int = option(
        20,
        "Steps between checkpoints: what a crash can lose at most.",
        minimum=1,
        maximum=1_000_000,
    )
    stop_when_converged: bool = option(
        False,
        "Stop as soon as every reward has held its target on the held-out prompts for 3 evaluations.",
    )
    rng_seed: int = option(
        0,
        "Same seed and settings, same result (bit for bit on a CPU).",
        minimum=0,
        maximum=2**53 - 1,
    )
    step_size: float = option(
        0.5,
        "The furthest that a natural step changes the policy, in nats per completion (KL divergence), whatever the "
        "model's size. Lower it when rewards swing.",
        minimum=1e-4,
        maximum=10.0,
        step=0.05,
    )

    @property
    def most_sampled_again(self) -> int:
        """Return how many prompts of a step are sampled a second time at most; see `objective.waiting`."""
        return max(1, self.prompts_per_step // 2) if self.optimizer == NATURAL else 0

    def __post_init__(self) -> None:
        check_options(self, TrainingError)
        if self.stop_when_converged and not self.eval_every:
            raise TrainingError(
                "`stop_when_converged` looks at evaluations, and with `eval_every` 0 there is none before the end; "
                "set `eval_every` to 1 or more."
            )
