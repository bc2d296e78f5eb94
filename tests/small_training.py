"""The smallest training that learns something: two rewards that want other letters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from gdpo.objective.objective import combine_rewards
from gdpo.progress import Progress
from gdpo.prompts import Prompt
from gdpo.rewards.reward import Reward
from gdpo.runs.history import read_history
from gdpo.settings import TrainSettings

PROMPTS = [Prompt((("user", f"the printer {i}"),), {}) for i in range(5)]
SETTINGS = TrainSettings(
    steps=6,
    prompts_per_step=2,
    group_size=4,
    max_new_tokens=8,
    optimizer="adamw",
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


class StopAt(Progress):
    """Interrupts in the middle of a step, as a host would: from `poll`, or after a record."""

    def __init__(self, step: int, polls: int | None = None) -> None:
        self.step, self.polls, self.done = step, polls, 0

    def record(self, record):
        self.done = record["step"]
        if self.polls is None and self.done == self.step:
            raise KeyboardInterrupt

    def poll(self):
        if self.polls is not None and self.done >= self.step:
            self.polls -= 1
            if self.polls < 0:
                raise KeyboardInterrupt


def outcome(folder: Path):
    """What a run leaves, without what depends on the clock."""
    from safetensors.torch import load_file

    timed = {"seconds", "tokens_per_second", "peak_memory_mb"}
    history = [{k: v for k, v in r.items() if k not in timed} for r in read_history(folder)]
    completions = (folder / "completions.jsonl").read_bytes()
    return history, completions, load_file(folder / "adapter" / "adapter_model.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    left, right = outcome(one), outcome(other)
    assert left[0] == right[0]
    assert left[1] == right[1]
    assert all(torch.equal(left[2][key], right[2][key]) for key in left[2] | right[2])
