"""Means with intervals, and what the result says of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

RESAMPLES = 10_000
_SHARE = 0.95


def interval(values: Tensor, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean over prompts by the bootstrap of percentiles.

    Args:
        values: A number for each prompt, `(P,)`.
        seed: Seed of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    means = values.double()[drawn].mean(1)
    ends = torch.tensor([(1 - _SHARE) / 2, (1 + _SHARE) / 2], dtype=torch.float64)
    low, high = torch.quantile(means, ends).tolist()
    return round(low, 4), round(high, 4)


def describe(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return mean and interval of each reward, before and after, from a number for each prompt."""
    return {
        name: {
            "before": round(float(before[name].mean()), 4),
            "after": round(float(after[name].mean()), 4),
            "interval_before": interval(before[name]),
            "interval_after": interval(after[name]),
        }
        for name in before
    }


def describe_exports(files: Sequence[Any]) -> list[dict[str, Any]]:
    """Return what verifying found of each exported file, in the order of the files."""
    return [
        {
            "type": file.type,
            "kl": None if file.report.kl is None else float(f"{file.report.kl:.3g}"),
            "top1": None if file.report.top1 is None else round(file.report.top1, 4),
            "holds": file.report.holds,
            "bits_per_weight": bits and round(bits, 2),
        }
        for file in files
        for bits in [file.report.bits_per_weight]
    ]


def table(result: Mapping[str, Any]) -> str:
    """Return the rewards of a result as the rows of a Markdown table."""
    return "\n".join(
        f"| `{name}` | {_show(one, 'before')} | {_show(one, 'after')} |"
        for name, one in result["rewards"].items()
    )


def _show(one: Mapping[str, Any], when: str) -> str:
    low, high = one[f"interval_{when}"]
    return f"{one[when]:.2f} ({low:.2f}–{high:.2f})"
