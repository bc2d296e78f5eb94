"""The task on the bundled model: a support desk, five rewards of this pack, prompts that were not trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gdpo.prompts import Prompt, load_prompts
from gdpo.rewards import AnswerMatch, Conciseness, Politeness, Repetition
from gdpo.rewards.reward import Reward
from gdpo.rewards.scorer import Completion, Scorer
from gdpo.settings import TrainSettings
from gdpo.starter import HELDOUT_PROMPTS, TRAIN_PROMPTS

from .tasks import TOO_LOUD

_SCORERS: dict[str, Scorer] = {
    "right fix": AnswerMatch(field="reference", mode="contains"),
    "product": AnswerMatch(field="product", mode="contains"),
    "politeness": Politeness(),
    "conciseness": Conciseness(longest=20, tolerance=30),
    "no repetition": Repetition(),
}
# Those of the quick start but for the steps; the learning rate is AdamW's best there.
_CHANGES = {
    "steps": 80,
    "group_size": 8,
    "max_new_tokens": 72,
    "learning_rate": 7e-4,
    "lora_rank": 16,
    "lora_alpha": 32,
    "micro_batch": 64,
}


@dataclass(frozen=True)
class DeskTask:
    """Five rewards that a short, kind and right reply earns together; see `tasks.Task` for what the members mean."""

    name: str = "desk5"
    loud: str = "conciseness"
    base: str = "starter"
    rare: bool = False
    measures: tuple[str, ...] = tuple(_SCORERS)

    def prompts(self) -> tuple[list[Prompt], list[Prompt]]:
        """Those to train on and those held out."""
        return load_prompts(TRAIN_PROMPTS), load_prompts(HELDOUT_PROMPTS)

    def settings(self, settings: TrainSettings) -> TrainSettings:
        """Return the benchmark's settings with what this model needs."""
        return replace(settings, **_CHANGES)

    def rewards(self, preference: str, seed: int) -> list[Reward]:
        """Return the rewards, with equal preferences or one of them too loud; every seed has the same."""
        loud = self.loud if preference == "mis-set" else ""
        return [
            Reward(name, scorer, preference=TOO_LOUD if name == loud else 1.0)
            for name, scorer in _SCORERS.items()
        ]

    def ideal_values(self) -> list[float]:
        """Return each reward's mean over ideal replies to the held-out prompts."""
        prompts = self.prompts()[1]
        replies = [Completion(_ideal(prompt), tokens=0) for prompt in prompts]
        return [
            sum(scorer.score(p, r) or 0.0 for p, r in zip(prompts, replies, strict=True))
            / len(prompts)
            for scorer in _SCORERS.values()
        ]


def _ideal(prompt: Prompt) -> str:
    fix, product = prompt.fields["reference"], prompt.fields["product"]
    return f"Hello! Sorry about your {product}. Please {fix}. Thank you!"
