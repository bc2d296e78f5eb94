"""A small model with a random adapter, its rollouts, and each completion's gradient by autograd alone."""

from __future__ import annotations

import pytest
import torch
from rounding import float64_throughout, path_length

from gdpo.policies.policy import trainable
from gdpo.prompts import Prompt
from gdpo.rollouts import sample
from gdpo.update.logprobs import checkpointing, score_tokens
from gdpo.update.reward_gradients import RewardGradients

F64 = torch.float64


@pytest.fixture
def training(tiny_policy):
    """A float64 model with a random adapter on it, and rollouts of different lengths."""
    with trainable(tiny_policy, rank=4, alpha=8, seed=1) as model:
        generator = torch.Generator().manual_seed(2)
        for name, parameter in model.named_parameters():
            if (
                parameter.requires_grad and "lora_B" in name
            ):  # zero at first, which would hide the A side
                parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        prompts = [
            Prompt((("user", text),), {}) for text in ("the printer", "restart the router please")
        ]
        rollouts = sample(
            model, tiny_policy.base.tokenizer, prompts, group_size=4, max_new_tokens=12, seed=3
        )
        with float64_throughout():
            yield model.double(), rollouts


def terms(model, rollouts) -> int:
    """Number of additions that make an entry of a gradient, forward and back."""
    return 2 * int(rollouts.lengths.sum()) * path_length(model)


def log_likelihoods(model, rollouts, rows):
    return score_tokens(model, rollouts, rows, 1.0).logprobs.sum(1)


def separate_passes(model, rollouts, coefficients):
    """The plain way: one backward pass for each reward, by autograd alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = torch.arange(coefficients.shape[1])
    found = []
    for row in coefficients:
        loss = (row * log_likelihoods(model, rollouts, rows)).sum()
        found.append(torch.autograd.grad(loss, parameters))
    return parameters, [torch.stack(each) for each in zip(*found, strict=True)]


def one_pass(model, rollouts, combination, advantages, *, seed=0, micro_batch=8, enabled=False):
    gradients = RewardGradients(model, combination, advantages, seed)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(5))
    with checkpointing(model, enabled), gradients.recording():
        for rows in order.split(micro_batch):
            gradients.backward(log_likelihoods(model, rollouts, rows), rows)
    return gradients
