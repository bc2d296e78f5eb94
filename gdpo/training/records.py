"""The records of a step, made from what the step did."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ..objective.advantages import dead_groups
from ..objective.objective import Objective
from ..objective.plan import Direction
from ..prompts import Prompt
from ..rollouts import Rollouts
from ..runs.record import CompletionRecord, Figures, RewardFigures, Seconds
from ..update.passes import Differentiated


class Stopwatch:
    """Seconds of the parts of a step."""

    def __init__(self) -> None:
        self._begin = self._last = time.perf_counter()
        self._parts: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End the part `name` now, which may have several."""
        now = time.perf_counter()
        self._parts[name] = self._parts.get(name, 0.0) + now - self._last
        self._last = now

    def seconds(self, name: str) -> float:
        """Tell how long the part `name` took."""
        return self._parts[name]

    def total(self) -> float:
        """From the beginning to the last lap."""
        return self._last - self._begin


def describe_rewards(names: Sequence[str], rewards: Tensor) -> Figures:
    """Return mean, standard deviation and share of dead groups of each reward; rewards `(K, B, G)`."""
    flat, dead = rewards.flatten(1), dead_groups(rewards)
    figures: dict[str, RewardFigures] = {
        name: {
            "mean": float(flat[k].nanmean()),
            "std": _nanstd(flat[k]),
            "dead_groups": float(dead[k]),
        }
        for k, name in enumerate(names)
    }
    return {"rewards": figures}


def describe_direction(objective: Objective, direction: Direction) -> Figures:
    """Return the weights, where they come from, and the geometry of the gradients."""
    return {
        "preferences": _by_name(objective, direction.preferences),
        "weights": _by_name(objective, direction.weights),
        "deficits": _by_name(objective, direction.deficits),
        "cosines": direction.cosines.tolist(),
        "dispersion": direction.dispersion,
        "dispersion_floor": objective.dispersion_floor if objective.directs else None,
        "dispersion_reached": direction.dispersion_reached,
    }


def describe_completions(rollouts: Rollouts) -> Figures:
    """Return lengths in tokens, and the share that the limit cut off."""
    lengths = rollouts.lengths.double()
    return {
        "length": {"mean": float(lengths.mean()), "std": float(lengths.std(unbiased=False))},
        "truncated": sum(c.truncated for c in rollouts.completions) / len(rollouts.completions),
    }


def describe_update(found: Differentiated, ratios: Tensor, rollouts: Rollouts) -> Figures:
    """Return what the backward pass found of the policy; ratios `(N, T)`."""
    return {
        "entropy": found.entropy,
        "sampler_gap": found.sampler_gap,
        "kl": kl_estimate(ratios, rollouts),
    }


def describe_cost(rollouts: Rollouts, watch: Stopwatch, device: str) -> Figures:
    """Time and memory; the laps of a step are "sample", "score" and "update"."""
    seconds: Seconds = {
        "sample": watch.seconds("sample"),
        "score": watch.seconds("score"),
        "update": watch.seconds("update"),
        "total": watch.total(),
    }
    return {
        "tokens_per_second": float(rollouts.lengths.sum()) / watch.seconds("sample"),
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(device),
    }


def describe_samples(
    step: int, prompts: Sequence[Prompt], rollouts: Rollouts, names: list[str], rewards: Tensor
) -> list[CompletionRecord]:
    """Return the first completion of each of these prompts, with its rewards; rewards `(K, B, G)`."""
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


def peak_memory_mb(device: str) -> float:
    """Return the peak memory so far: of the card's allocator on CUDA, of the process otherwise."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _by_name(objective: Objective, values: Tensor) -> dict[str, float | None]:
    return dict(zip(objective.names, values.tolist(), strict=True))


def _nanstd(values: Tensor) -> float:
    known = values[~values.isnan()]
    return float(known.std(unbiased=False)) if len(known) else float("nan")
