"""Makes what an update works on: a model with its optimiser, and completions with K random rewards each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gdpo.objective.director import Director
from gdpo.objective.methods import METHODS
from gdpo.objective.objective import Objective
from gdpo.objective.weighting import WEIGHTINGS
from gdpo.rewards import Completion, Conciseness, Reward
from gdpo.rollouts import Rollouts
from gdpo.settings import TrainSettings
from gdpo.update.logprobs import score_tokens

# The director decides with the bare preferences for its first steps; the steps after them are measured.
_DIRECTOR_WARMUP = 4


@dataclass(frozen=True, eq=False)
class Batch:
    """A model with its adapter and optimiser, and completions with K rewards each.

    Attributes:
        model: Model with the adapter that is trained.
        parameters: The adapter's matrices.
        optimizer: Optimiser of these, with learning rate 0.
        rollouts: N completions.
        rewards: Random scores, `(K, B, G)`.
        director: Director past its first steps.
        settings: Settings for micro-batches and temperature.
    """

    model: Any
    parameters: list[Tensor]
    optimizer: torch.optim.Optimizer
    rollouts: Rollouts
    rewards: Tensor
    director: Director
    settings: TrainSettings


def make_optimizer(model: Any) -> torch.optim.Optimizer:
    """Make an optimiser for the adapter of `model`, with learning rate 0."""
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)


def make_batch(
    model: Any,
    optimizer: torch.optim.Optimizer,
    rollouts: Rollouts,
    count: int,
    group: int,
    settings: TrainSettings,
) -> Batch:
    """Make a batch with `count` random rewards in groups of `group` completions."""
    generator = torch.Generator().manual_seed(count)
    completions = len(rollouts.completion_ids)
    shape = (count, completions // group, group)
    rewards = torch.rand(shape, generator=generator, dtype=torch.float64)
    scorer = Conciseness()
    named = tuple(Reward(f"reward {k}", scorer) for k in range(count))
    # The largest benchmark has more rewards than `combine_rewards` lets a user have.
    director = Director(Objective(named, METHODS["gdpo"], WEIGHTINGS["directed"], 0.7))
    for _ in range(_DIRECTOR_WARMUP):
        plan = director.decide(director.observe(rewards))
        directions = torch.randn(count, 2 * count, generator=generator, dtype=torch.float64)
        director.measure(plan, directions @ directions.T, torch.zeros(completions))
    parameters = [p for p in model.parameters() if p.requires_grad]
    return Batch(model, parameters, optimizer, rollouts, rewards, director, settings)


def random_rollouts(model: Any, *, rows: int, prompt: int, length: int) -> Rollouts:
    """Draw random tokens, and take the log-probabilities that the model gives them."""
    device = next(model.parameters()).device
    ids = torch.randint(0, 1000, (rows, prompt + length), device=device)
    mask = torch.ones_like(ids)
    rollouts = Rollouts(
        ids[:, :prompt],
        mask[:, :prompt],
        ids[:, prompt:],
        mask[:, prompt:].bool(),
        torch.zeros(rows, length, device=device),
        (Completion("", length),) * rows,
    )
    with torch.no_grad():
        for row in range(rows):
            chosen = torch.tensor([row], device=device)
            rollouts.logprobs[row] = score_tokens(model, rollouts, chosen, 1.0).logprobs[0]
    return rollouts
