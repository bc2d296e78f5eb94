"""What the rewards of a file's answers say of the file: they are what was trained.

A KL is a mean over positions, most of which the training did not change. A small one can hide that the file has lost
what was learned, as where it is rounded back to the base; a large one can come from positions that decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ..rewards.reward import Reward
from .formats import MOST, limit
from .report import Report, judge
from .verify import FileCheck

# A reward is the same if it falls by at most this share of its range.
_SAME = 0.05


def judged_by_rewards(
    report: Report, precision: str, check: FileCheck, rewards: Sequence[Reward], answers: int
) -> Report:
    """Return the report with a verdict that heeds the rewards in it.

    A file in whose answers a reward falls by more than two standard errors of a mean, at their largest (half a range
    an answer), does not hold. One that is over the limit of its type, four times at most, and has no other fault,
    holds if every reward is that of the policy.

    Args:
        report: What is known of the file, its rewards among it.
        precision: Precision that the base was merged in.
        check: What comparing the file found.
        rewards: The rewards, for their ranges.
        answers: Number of answers that the means are of.
    """
    falls = {reward.name: _fall(report, reward) for reward in rewards}
    name = max(falls, key=lambda one: falls[one])
    if falls[name] > 1 / math.sqrt(answers):
        means = report.rewards[name]
        end = "nothing" if means["gguf"] is None else f"{means['gguf']:.2f}"
        lost = (
            f"the reward {name!r} falls from {means['policy']:.2f} to {end} in the file's answers"
        )
        why = f"{lost}; {report.why}" if report.holds is False else lost
        return replace(report, holds=False, why=why)
    near = check.kl <= MOST * limit(report.type, precision)
    if report.holds is False and near and falls[name] <= _SAME:
        alone = judge(report.type, precision, replace(check, kl=0.0), report.tensor_types)
        if alone[0]:
            return replace(
                report, holds=True, why=f"every reward is that of the policy, though {report.why}"
            )
    return report


def _fall(report: Report, reward: Reward) -> float:
    """Return by which share of its range a reward's mean is lower in the file's answers; one that is gone has lost all."""
    means, (low, high) = report.rewards[reward.name], reward.scorer.value_range
    before, after = means["policy"], means["gguf"]
    if before is None:
        return 0.0
    return 1.0 if after is None else (before - after) / (high - low)
