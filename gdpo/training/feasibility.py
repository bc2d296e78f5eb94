"""Whether the adapter, the optimiser and the method can do what a step asks of them, tried on made-up numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import MethodError, TrainingError, shorten
from ..objective.director import Director
from ..objective.objective import Objective
from ..optimizers import NATURAL, make_optimizer
from ..policies.targets import passed_apart
from ..settings import TrainSettings
from ..update.lora_linears import lora_linears

_STEPS = 6  # a weighting is asked from the fourth step on only
_MOST_GROUPS = 4
_ENTRIES = 8192  # of a tensor whose state an optimiser may keep in 8 bits


def check_adapter(model: Any, *, fresh: bool) -> None:
    """Refuse an adapter of which a matrix would never be trained, or whose gradients could not be told apart.

    Args:
        model: Model with the trainable adapter on it.
        fresh: Whether it was made for this training; then it is on such layers alone that a pass has shown to fit.

    Raises:
        TrainingError: The message names a matrix.
    """
    matrices = lora_linears(model)
    if fresh:
        return
    apart = passed_apart(model)
    silent = [module for module in matrices if module not in apart]
    together = [module for module in matrices if not apart.get(module, True)]
    for odd, what in (
        (silent, "took no part in the pass"),
        (together, "take all completions together"),
    ):
        if odd:
            name = next(name for name, module in model.named_modules() if module is odd[0])
            raise TrainingError(
                f"{len(odd)} of the adapter's {len(matrices)} matrices {what}, so they cannot be trained: "
                f"{shorten(name, 160)}; train a fresh adapter, which leaves such layers out."
            )


def check_optimizer(name: str, device: str) -> None:
    """Refuse an optimiser that cannot make a step on a device; the natural one can on every one.

    Raises:
        TrainingError: Its library is absent or broken, or does not know the device.
    """
    if name == NATURAL:
        return
    parameter = torch.nn.Parameter(torch.zeros(_ENTRIES, device=device))
    parameter.grad = torch.zeros_like(parameter)
    optimizer = make_optimizer(name, [parameter], 1e-3)
    try:
        optimizer.step()
    except (
        Exception
    ) as error:  # of many classes: what a library raises on a device that it does not know
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TrainingError(
            f"`optimizer` {name!r} cannot make a step on {device} ({shorten(reason, 160)}); choose 'adamw' or 'sgd'."
        ) from error


def check_method(objective: Objective, settings: TrainSettings) -> None:
    """Refuse a method or a weighting that fails on scores of this many rewards and completions.

    Raises:
        MethodError: It raised, or gave something else than finite numbers of the right shape.
    """
    named = f"method {objective.method.name!r}"
    if objective.directs:
        named += f" with the weighting {objective.weighting.name!r}"
    try:
        problem, cause = _rehearse(objective, settings), None
    except Exception as error:  # noqa: BLE001  a method or a weighting may be anyone's code
        problem, cause = " ".join(f"{type(error).__name__}: {error}".split()), error
    if problem:
        raise MethodError(
            f"The {named} cannot be used for {len(objective.rewards)} rewards and groups of {settings.group_size} "
            f"({shorten(problem, 200)}); choose another, or correct it."
        ) from cause


def _rehearse(objective: Objective, settings: TrainSettings) -> str:
    """Return what is wrong with what some steps give on made-up scores; empty if nothing is."""
    generator = torch.Generator().manual_seed(0)
    groups, rewards = min(settings.prompts_per_step, _MOST_GROUPS), len(objective.rewards)
    shape = (rewards, groups, settings.group_size)
    lows, ranges = objective.lows[:, None, None], objective.ranges[:, None, None]
    director = Director(objective)
    for _ in range(_STEPS):
        scores = lows + ranges * torch.rand(shape, generator=generator, dtype=torch.float64)
        plan = director.decide(director.observe(scores))
        combined = director.combine(plan, scores, torch.zeros(shape[1:], dtype=torch.float64))
        wanted = {"advantages": shape, "weights": shape[:1], "combined advantages": shape[1:]}
        found = (plan.advantages, plan.weights, combined)
        for (name, size), value in zip(wanted.items(), found, strict=True):
            if problem := _misfit(name, value, size):
                return problem
        completions = torch.ones(groups * settings.group_size, dtype=torch.float64)
        director.measure(plan, torch.eye(rewards, dtype=torch.float64), completions)
    return ""


def _misfit(name: str, value: Tensor, size: tuple[int, ...]) -> str:
    if tuple(value.shape) != size:
        return f"its {name} have the shape {tuple(value.shape)} where {size} is needed"
    return "" if value.isfinite().all() else f"its {name} are not finite"
