"""Groups of completions of three prompts, updated with shared prompts and without."""

from __future__ import annotations

import torch
from conftest import make_tokenizer
from rounding import close, path_length

from gdpo.prompts import Prompt
from gdpo.rollouts import Rollouts, sample
from gdpo.settings import TrainSettings
from gdpo.update.micro_batches import plan
from gdpo.update.passes import differentiate

PROMPTS = [
    Prompt((("user", text),), {})
    for text in (
        "the printer does not print and the screen stays black please",
        "restart the router then check the cable",
        "thank you sorry for the trouble I am happy to help with your order",
    )
]
GROUPS = (5, 1, 3)
N = sum(GROUPS)
F64 = torch.float64
COMBINATION = torch.tensor([1.5, 0.0, -2.0, 0.3, -0.1, 0.7, -0.4, 0.0, 1.1], dtype=F64)
ADVANTAGES = torch.randn(2, N, generator=torch.Generator().manual_seed(5), dtype=F64)
ROWS = torch.arange(N)
SETTINGS = TrainSettings(optimizer="adamw", micro_batch=4, prompts_per_step=3, group_size=3)


def chosen(rollouts: Rollouts, rows: list[int]) -> Rollouts:
    tensors = (
        rollouts.prompt_ids,
        rollouts.prompt_mask,
        rollouts.completion_ids,
        rollouts.completion_mask,
        rollouts.logprobs,
    )
    return Rollouts(*(t[rows] for t in tensors), tuple(rollouts.completions[i] for i in rows))


def terms(model, rollouts: Rollouts) -> int:
    """Number of additions that make an entry of a gradient, forward and back."""
    tokens = int(rollouts.prompt_mask.sum() + rollouts.lengths.sum())
    return 2 * tokens * path_length(model)


def drawn(model, prompts=PROMPTS) -> Rollouts:
    """Groups of 5, 1 and 3 completions of up to 10 tokens."""
    found = sample(model, make_tokenizer(), prompts, group_size=5, max_new_tokens=10, seed=3)
    return chosen(found, [0, 1, 2, 3, 4, 5, 10, 11, 12])


def both_ways(model, rollouts, settings=SETTINGS):
    size = settings.micro_batch
    ways = (
        plan(model, rollouts, ROWS, size, 1.0),
        plan(model, rollouts, ROWS, size, 1.0, share=False),
    )
    assert [way[0].owners is not None for way in ways] == [True, False]
    return [
        differentiate(model, rollouts, COMBINATION, ADVANTAGES, settings, lambda: None, batches=way)
        for way in ways
    ]


def same_step(model, rollouts, settings=SETTINGS):
    """Assert that both ways give the same combined gradient, and return their results."""
    shared, plain = both_ways(model, rollouts, settings)
    for found, wanted in zip(shared.gradients.combined, plain.gradients.combined, strict=True):
        close(found, wanted, terms(model, rollouts))
    return shared, plain
