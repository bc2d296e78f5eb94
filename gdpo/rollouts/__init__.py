"""Rollouts: completions sampled from the policy, with their log-probabilities."""

from __future__ import annotations

from .rollouts import Rollouts
from .sampling import sample

__all__ = ["Rollouts", "sample"]
