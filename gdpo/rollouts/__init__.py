"""Rollouts: completions sampled from the policy, with their log-probabilities."""

from __future__ import annotations

from .sampling import Rollouts, sample

__all__ = ["Rollouts", "sample"]
