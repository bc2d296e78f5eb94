"""The smallest training that learns something: two rewards that want other letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gdpo.objective.objective import combine_rewards
from gdpo.prompts import Prompt
from gdpo.rewards.reward import Reward
from gdpo.settings import TrainSettings

PROMPTS = [Prompt((("user", f"the printer {i}"),), {}) for i in range(5)]
SETTINGS = TrainSettings(
    steps=6,
    prompts_per_step=2,
    group_size=4,
    max_new_tokens=8,
    learning_rate=1e-2,
    lora_rank=4,
    warmup_steps=2,
    eval_every=3,
    checkpoint_every=2,
)


@dataclass(frozen=True)
class LetterShare:
    """Share of the characters that are one of `letters`."""

    letters: str
    kind: ClassVar[str] = "LetterShare"
    summary: ClassVar[str] = "share of letters"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def score(self, prompt, completion):
        text = completion.text
        return sum(c in self.letters for c in text) / len(text) if text else 0.0


def objective(method: str = "gdpo", **options):
    rewards = [Reward("vowels", LetterShare("aeiou")), Reward("consonants", LetterShare("rstln"))]
    return combine_rewards(rewards, method=method, **options)
