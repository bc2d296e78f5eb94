"""A small training, and the estimate of its memory."""

from __future__ import annotations

from pathlib import Path

from gdpo.memory import MemoryEstimate, estimate
from gdpo.objective.objective import combine_rewards
from gdpo.policies.configuration import read_config
from gdpo.prompts import Prompt
from gdpo.rewards import SCORERS, Reward
from gdpo.settings import TrainSettings

SETTINGS = TrainSettings(
    steps=2,
    prompts_per_step=2,
    group_size=4,
    max_new_tokens=12,
    optimizer="adamw",
    micro_batch=8,
    lora_rank=4,
    eval_every=1000,
    checkpoint_every=1000,
)
PROMPTS = [Prompt((("user", f"the printer does not print {i}"),), {}) for i in range(4)]
FACTS = {"rewards": 2, "precision": "fp32", "device": "cpu", "prompt_tokens": 20}


def told(folder: Path, settings: TrainSettings = SETTINGS, **changes) -> MemoryEstimate:
    return estimate(read_config(folder), settings, **{**FACTS, **changes})


def objective():
    rewards = [Reward("short", SCORERS["Conciseness"]()), Reward("kind", SCORERS["Politeness"]())]
    return combine_rewards(rewards)
