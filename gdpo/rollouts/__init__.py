"""Rollouts: completions sampled from the policy, with their log-probabilities."""

from __future__ import annotations

from .joining import joined
from .rollouts import Rollouts
from .sampling import sample

__all__ = ["Rollouts", "joined", "sample"]
