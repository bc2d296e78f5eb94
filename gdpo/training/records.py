"""What a step's line in the history says, computed from what the step made."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..objective.advantages import dead_groups
from ..objective.director import Direction
from ..objective.objective import Objective
from ..prompts import Prompt
from ..rollouts import Rollouts


class Stopwatch:
    """Seconds of the parts of a step."""

    def __init__(self) -> None:
        self._begin = self._last = time.perf_counter()
        self._parts: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """The part `name` ends now."""
        now = time.perf_counter()
        self._parts[name], self._last = now - self._last, now

    def seconds(self) -> dict[str, float]:
        """Each part, and `total`."""
        return {**self._parts, "total": self._last - self._begin}


def describe_rewards(names: list[str], rewards: Tensor) -> dict[str, Any]:
    """Mean, standard deviation and share of dead groups of each reward; rewards `(K, B, G)`."""
    flat, dead = rewards.flatten(1), dead_groups(rewards)
    return {
        "rewards": {
            name: {"mean": flat[k].nanmean(), "std": _nanstd(flat[k]), "dead_groups": dead[k]}
            for k, name in enumerate(names)
        }
    }


def describe_direction(objective: Objective, direction: Direction) -> dict[str, Any]:
    """What was decided: weights, where they come from, and the geometry of the gradients."""
    names = objective.names
    return {
        "preferences": dict(zip(names, direction.preferences, strict=True)),
        "weights": dict(zip(names, direction.weights, strict=True)),
        "deficits": dict(zip(names, direction.deficits, strict=True)),
        "cosines": direction.cosines,
        "wedges": direction.wedges,
        "dispersion": direction.dispersion,
        "dispersion_floor": objective.dispersion_floor if objective.directs else None,
        "dispersion_reached": direction.dispersion_reached,
    }


def describe_completions(rollouts: Rollouts) -> dict[str, Any]:
    """Lengths in tokens, and the share that the limit cut off."""
    lengths = rollouts.lengths.double()
    return {
        "length": {"mean": lengths.mean(), "std": lengths.std(unbiased=False)},
        "truncated": sum(c.truncated for c in rollouts.completions) / len(rollouts.completions),
    }


def describe_samples(
    step: int, prompts: Sequence[Prompt], rollouts: Rollouts, names: list[str], rewards: Tensor
) -> list[dict[str, Any]]:
    """The first completion of each of these prompts, with its rewards; rewards `(K, B, G)`."""
    group = rewards.shape[2]
    return [
        {
            "step": step,
            "prompt": prompt.text,
            "completion": rollouts.completions[b * group].text,
            "rewards": dict(zip(names, rewards[:, b, 0].tolist(), strict=True)),
        }
        for b, prompt in enumerate(prompts)
    ]


def kl_estimate(ratios: Tensor, rollouts: Rollouts) -> float:
    """KL(pi || base) for each token, by the unbiased, never negative estimator exp(-d) - 1 + d."""
    known = ratios[rollouts.completion_mask & ~ratios.isnan()]
    return float((torch.exp(-known) - 1 + known).mean())


def _nanstd(values: Tensor) -> float:
    known = values[~values.isnan()]
    return float(known.std(unbiased=False)) if len(known) else float("nan")


def peak_memory_mb(device: str) -> float:
    """Peak memory so far: of the card's allocator on CUDA, of the process otherwise."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
