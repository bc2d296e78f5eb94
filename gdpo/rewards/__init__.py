"""Rewards: what a completion is worth, one file per kind.

To add a kind, write a frozen dataclass like the ones here and enter it in `SCORERS`; its node
follows.
"""

from __future__ import annotations

from ..options import Option, check_options, describe, option
from .answer_match import AnswerMatch
from .conciseness import Conciseness
from .json_schema import JSONSchema
from .keywords import Keywords
from .pattern import Pattern
from .politeness import Politeness
from .repetition import Repetition
from .reward import Reward, identify_reward
from .scorer import Completion, Scorer
from .scoring import score_rewards

# In menu order. The keys are part of saved workflows: never rename one.
SCORERS: dict[str, type] = {
    scorer.kind: scorer
    for scorer in (Conciseness, Politeness, Keywords, Pattern, JSONSchema, AnswerMatch, Repetition)
}

__all__ = [
    "SCORERS",
    "AnswerMatch",
    "Completion",
    "Conciseness",
    "JSONSchema",
    "Keywords",
    "Option",
    "Pattern",
    "Politeness",
    "Repetition",
    "Reward",
    "Scorer",
    "check_options",
    "describe",
    "identify_reward",
    "option",
    "score_rewards",
]
