"""The tasks: which rewards, at which scales, wanted how much, and what an ideal reply looks like.

All of a task's rewards can be had at once, by its ideal reply; on the way there they conflict. Brevity is
easiest to get and takes words away from everything else; the right answer is rare and needs words.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from gdpo.prompts import Prompt
from gdpo.rewards.reward import Reward
from gdpo.settings import TrainSettings

from .measured import MEASURES, Measured
from .world import PROBLEMS, all_prompts

_HELD_OUT = 100
# Each scale is drawn between these, evenly in its logarithm, by the run's seed.
_SCALES = (0.1, 10.0)
# A mis-set preference: one reward is asked for this many times too loudly.
TOO_LOUD = 8.0
PREFERENCES = ("equal", "mis-set")


@dataclass(frozen=True)
class Task:
    """Rewards that can all be had at once, and a policy that starts far from it.

    Attributes:
        name: Name in tables.
        measures: One a reward.
        loud: The measure that a mis-set preference asks for too loudly.
        ideal: The ideal reply to a prompt.
        equal_scales: True if all rewards have scale 1.
        base: The policy to start from, one of `world.BASES`.
    """

    name: str
    measures: tuple[str, ...]
    loud: str
    ideal: Callable[[str], str]
    equal_scales: bool = False
    base: str = "usual"

    @property
    def rare(self) -> bool:
        """Tell whether right answers are rare at the start."""
        return self.base != "usual"

    def prompts(self) -> tuple[list[Prompt], list[Prompt]]:
        """Those to train on and those held out."""
        found = [Prompt((("user", text),)) for text in all_prompts()]
        return found[:-_HELD_OUT], found[-_HELD_OUT:]

    def settings(self, settings: TrainSettings) -> TrainSettings:
        """Return the benchmark's settings as they are."""
        return settings

    def rewards(self, preference: str, seed: int) -> list[Reward]:
        """Return the rewards of a run: scales by its seed, preferences equal or one of them too loud."""
        rng = random.Random(f"{self.name}/{seed}")
        low, high = _SCALES
        made = []
        for measure in self.measures:
            scale = 1.0 if self.equal_scales else low * (high / low) ** rng.random()
            loud = preference == "mis-set" and measure == self.loud
            made.append(
                Reward(measure, Measured(measure, scale), preference=TOO_LOUD if loud else 1.0)
            )
        return made

    def ideal_values(self) -> list[float]:
        """Return each measure's mean over the ideal replies to the held-out prompts."""
        texts = [prompt.text for prompt in self.prompts()[1]]
        return [
            sum(MEASURES[m](t, self.ideal(t).split()) for t in texts) / len(texts)
            for m in self.measures
        ]


def _ideal_support(prompt: str) -> str:
    first, second = PROBLEMS[prompt.split()[1]]
    return f"hello please {first} {second} thanks team bye"


def _ideal_steps(prompt: str) -> str:
    problem = prompt.split()[1]
    first, second = PROBLEMS[problem]
    return f"hello {problem} please first {first} then {second} thanks bye"


def _ideal_ten(prompt: str) -> str:
    problem = prompt.split()[1]
    first, second = PROBLEMS[problem]
    return f"hello sorry {problem} please {first} {second} thanks guide team bye"


_THREE = ("accuracy", "politeness", "brevity8")
_FIVE = (*_THREE, "format", "team")
_STEPS = ("steps", "politeness", "brevity10", "format", "problem")
_TEN = (
    *("accuracy", "politeness", "brevity11", "format", "team"),
    *("plain", "guide", "problem", "no_repeat", "apology"),
)
TASKS = {
    task.name: task
    for task in (
        Task("support3", _THREE, "brevity8", _ideal_support, equal_scales=True),
        Task("support5", _FIVE, "brevity8", _ideal_support),
        Task("steps5", _STEPS, "brevity10", _ideal_steps),
        Task("support10", _TEN, "brevity11", _ideal_ten),
        Task("rare5", _FIVE, "brevity8", _ideal_support, base="rare"),
        Task("rarer5", _FIVE, "brevity8", _ideal_support, base="rarer"),
    )
}
