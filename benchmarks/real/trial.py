"""Trains a model on the questions, and measures memory, rewards, speed and exports on the way."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gdpo
from benchmarks.common.peaks import forget_peak, measurable, peak_mb, reset_peak, resident_mb
from benchmarks.real.figures import describe, describe_exports
from benchmarks.real.prompts import HELDOUT, question_of, questions
from gdpo.memory import estimate
from gdpo.policies.chat import encode_prompts
from gdpo.starter import MODEL_DIR

REWARDS = (
    gdpo.Reward("right", gdpo.AnswerMatch(), preference=2.0),
    gdpo.Reward("in form", gdpo.Pattern(pattern="It is {answer}.")),
    gdpo.Reward("short", gdpo.Conciseness(shortest=3, longest=5, tolerance=20)),
)
SETTINGS: dict[str, Any] = {
    "prompts_per_step": 4,
    "group_size": 6,
    "max_new_tokens": 24,
    "micro_batch": 12,
    "learning_rate": 1e-4,
    "warmup_steps": 2,
}
EXPORTS = ("Q8_0", "Q4_K_M")


@dataclass(frozen=True)
class Plan:
    """How much is done: steps, held-out prompts, and completions of each of them before and after."""

    steps: int = 40
    heldout: int = HELDOUT
    completions: int = 2

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings of the training."""
        return {**SETTINGS, "steps": self.steps, "eval_every": self.steps}


QUICK = Plan(steps=2, heldout=4, completions=1)


@dataclass
class Notes(gdpo.Progress):
    """Prints what goes on, and notes peaks of memory and the seconds of each step's parts.

    Attributes:
        peak: Largest resident set in MB, or what the card's allocator gave out; None where it cannot be measured.
        steps: Records of the steps.
    """

    device: str
    peak: float | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    _told: float = 0.0

    def phase(self, name: str, done: int, total: int) -> None:
        """Note the peak so far, and print the phase now and then."""
        if measurable(self.device):
            self.peak = max(self.peak or 0.0, peak_mb(self.device)[0])
        if time.monotonic() > self._told + 20:
            self._told = time.monotonic()
            print(f"  {name} {done}/{total}", flush=True)  # noqa: T201

    def record(self, record: dict) -> None:
        """Keep the record of a step, and print its rewards."""
        if "rewards" in record:
            self.steps.append(record)
            means = {name: f"{one['mean']:.2f}" for name, one in record["rewards"].items()}
            print(f"step {record['step']}: {means}", flush=True)  # noqa: T201


def measure(model: str, plan: Plan, seed: int, folder: Path) -> dict[str, Any]:
    """Return the whole result of a model, all but its name and the machine's.

    Args:
        model: A folder or a GGUF file.
        plan: How much is done.
        seed: Seed of the questions, of the training and of all completions.
        folder: Where the run and the exported files go; new or empty.
    """
    train, heldout = questions(seed)
    heldout = heldout[: plan.heldout]
    _bring_in_libraries()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if measurable(device):
        reset_peak(device)
    baseline = resident_mb(device) if measurable(device) else 0.0
    begin = time.monotonic()
    policy = gdpo.load_policy(model)
    told = foretell(policy, train, heldout, plan)
    before = score(policy, heldout, plan, seed)
    if measurable(device):
        forget_peak(device)
    notes = Notes(device)
    run = gdpo.train(
        policy,
        train,
        gdpo.combine_rewards(REWARDS),
        folder / "run",
        heldout=heldout,
        progress=notes,
        rng_seed=seed,
        **plan.settings,
    )
    after = score(run.policy, heldout, plan, seed)
    files = gdpo.export_gguf(
        run.policy, folder / "gguf", types=EXPORTS, prompts=heldout, rewards=REWARDS
    )
    return {
        "parameters": policy.base.model.num_parameters(),
        "estimate_mb": round(told / 2**20),
        "peak_mb": None if notes.peak is None else round(notes.peak - baseline),
        "rewards": describe(before, after),
        "exports": describe_exports(files),
        "answer": answers(
            heldout[0], {"before": policy, "after": run.policy, "gguf": _best(files)}
        ),
        "seconds": round(time.monotonic() - begin),
        **speed(notes.steps),
    }


def foretell(
    policy: gdpo.Policy, train: Sequence[gdpo.Prompt], heldout: Sequence[gdpo.Prompt], plan: Plan
) -> int:
    """Return the bytes that the training will take, as GDPO Train tells them before it begins."""
    base = policy.base
    lengths = [len(one.ids) for one in encode_prompts(base.tokenizer, [*train, *heldout])]
    return estimate(
        base.model.config,
        gdpo.TrainSettings(**plan.settings),
        rewards=len(REWARDS),
        precision=base.precision,
        device=base.device,
        prompt_tokens=max(lengths),
        shortest_prompt=min(lengths),
        heldout=len(heldout),
        tokens=len(base.tokenizer),
        loaded=True,
    ).total


def score(
    policy: gdpo.Policy, prompts: Sequence[gdpo.Prompt], plan: Plan, seed: int
) -> dict[str, Tensor]:
    """Return each reward of each prompt, the mean over some completions, `(P,)`."""
    found = []
    for draw in range(plan.completions):
        completions = gdpo.generate(
            policy, prompts, max_new_tokens=SETTINGS["max_new_tokens"], seed=1000 * seed + draw
        )
        found.append(gdpo.score_rewards(REWARDS, prompts, completions, lambda: None))
    means = torch.stack(found).mean(0)  # (K, P)
    return {reward.name: row for reward, row in zip(REWARDS, means, strict=True)}


def answers(prompt: gdpo.Prompt, models: Mapping[str, gdpo.Policy | Path]) -> dict[str, str]:
    """Return what each model says to one prompt, each time the likeliest token; the GGUF by llama.cpp."""
    length = SETTINGS["max_new_tokens"]
    said = {
        name: gdpo.generate(model, [prompt], max_new_tokens=length, temperature=0.0)[0].text
        for name, model in models.items()
    }
    return {"question": question_of(prompt), **said}


def _best(files: Sequence[gdpo.GGUF]) -> Path:
    """Return the smallest file that holds; the first one where none does."""
    holding = [file for file in files if file.report.holds]
    return min(holding or files[:1], key=lambda file: file.report.bytes).path


def speed(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return tokens per second of the sampling and seconds of an update, of the middle step each."""
    rates = sorted(one["tokens_per_second"] for one in steps)
    updates = sorted(one["seconds"]["update"] for one in steps)
    return {
        "tokens_per_second": round(rates[len(steps) // 2], 1),
        "update_seconds": round(updates[len(steps) // 2], 1),
    }


def _bring_in_libraries() -> None:
    """Train the bundled model for a step, so that what comes after measures models alone."""
    prompts = [gdpo.make_prompt("hello"), gdpo.make_prompt("good morning")]
    with tempfile.TemporaryDirectory() as folder:
        gdpo.train(
            gdpo.load_policy(MODEL_DIR),
            prompts,
            gdpo.combine_rewards(REWARDS[1:]),
            folder,
            steps=1,
            prompts_per_step=2,
            group_size=2,
            max_new_tokens=4,
        )
    gc.collect()
