"""One run: a task, an arm, preferences and a seed in; its evaluations out."""

from __future__ import annotations

import json
import logging
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gdpo.policies.loading import load_policy
from gdpo.policies.policy import Policy
from gdpo.rewards.reward import Reward
from gdpo.runs.history import read_history
from gdpo.settings import TrainSettings
from gdpo.starter import MODEL_DIR
from gdpo.training.trainer import train

from .arm import Arm
from .arms import ARMS
from .desk import DeskTask
from .tasks import TASKS, Task
from .world import LONGEST_REPLY, make_base

# Policies that runs start from, made once; `output` is not part of the repository.
WORK = Path(__file__).resolve().parents[2] / "output" / "convergence"
# The same for all arms: budget, rollouts, optimiser, and a learning rate that was tuned once, on other
# seeds than those of the results.
SETTINGS = TrainSettings(
    steps=300,
    prompts_per_step=8,
    group_size=16,
    max_new_tokens=LONGEST_REPLY,
    optimizer="adamw",
    learning_rate=5e-3,
    lora_rank=8,
    lora_alpha=16,
    micro_batch=128,
    eval_every=5,
    checkpoint_every=1_000_000,
)
DESK = DeskTask()
EVERY_TASK: dict[str, Task | DeskTask] = {**TASKS, DESK.name: DESK}
# Seeds that all arms have; those from 1000 on were used to develop the methods and to tune the learning rate.
MAIN_SEEDS = range(4)
# A frozen policy's evaluations show what is noise.
FROZEN = 1e-8


@dataclass(frozen=True)
class Case:
    """What identifies a run. `arm` is one of `ARMS`, "frozen", or "only NAME" for a single reward."""

    task: str
    arm: str
    preference: str
    seed: int

    @property
    def key(self) -> str:
        """Return one line for the records."""
        return f"{self.task}/{self.arm}/{self.preference}/{self.seed}"


def run(case: Case, policy: Policy, settings: TrainSettings = SETTINGS) -> dict[str, Any]:
    """Train, and return the case with the evaluations: means in shares of the range, and lengths."""
    task = EVERY_TASK[case.task]
    rewards = task.rewards(case.preference, case.seed)
    arm = ARMS.get(case.arm, Arm())
    objective = arm.objective(_only(case.arm, rewards))
    settings = _settings(case, arm, task.settings(settings))
    train_on, held_out = task.prompts()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "run"
        train(policy, train_on, objective, settings, where, heldout=held_out, parts=arm.parts)
        records = read_history(where)
    scales = {r.name: r.scorer.value_range[1] for r in rewards}
    return {
        **asdict(case),
        "names": [r.name for r in objective.rewards],
        "seconds": round(time.perf_counter() - start, 1),
        "sampled_again": _sampled_again(records, settings),
        **_evaluations([r for r in records if "eval" in r], scales),
        **_directions([r for r in records if "weights" in r], settings.eval_every),
    }


def _sampled_again(records: list[dict[str, Any]], settings: TrainSettings) -> float:
    """Return how many completions more a step had than its settings say, as a share."""
    again = sum(record.get("sampled_again", 0) for record in records)
    return round(again / (settings.steps * settings.prompts_per_step), 4)


def _settings(case: Case, arm: Arm, settings: TrainSettings) -> TrainSettings:
    settings = replace(settings, rng_seed=case.seed)
    if case.arm == "frozen":
        return replace(settings, learning_rate=FROZEN, steps=10 * settings.eval_every)
    return arm.change(settings)


def _only(arm: str, rewards: Sequence[Reward]) -> list[Reward]:
    wanted = arm.removeprefix("only ")
    return [r for r in rewards if r.name == wanted] if wanted != arm else list(rewards)


def _evaluations(records: list[dict[str, Any]], scales: dict[str, float]) -> dict[str, Any]:
    found = [r["eval"] for r in records]
    return {
        "steps": [r["step"] for r in records],
        "means": [
            [round(e["rewards"][n]["mean"] / scales[n], 4) for n in e["rewards"]] for e in found
        ],
        "errors": [
            [round(e["rewards"][n]["standard_error"] / scales[n], 4) for n in e["rewards"]]
            for e in found[:1] + found[-1:]
        ],
        "length": [round(e["length"]["mean"], 2) for e in found],
        "length_std": [round(e["length"]["std"], 2) for e in found],
    }


def _directions(records: list[dict[str, Any]], every: int) -> dict[str, Any]:
    """Return the dispersion and the most negative cosine, every few steps."""
    chosen = records[every - 1 :: every]
    return {
        "dispersion": [round(r["dispersion"], 3) for r in chosen],
        "worst_cosine": [round(min(map(min, r["cosines"])), 3) for r in chosen],
    }


def load_base(folder: Path, base: str) -> Policy:
    """Return a policy that runs start from, made if it is not there yet."""
    path = MODEL_DIR if base == DESK.base else make_base(folder / base, base)
    return load_policy(path, precision="fp32", device="cpu")


def in_pool(case: Case) -> dict[str, Any]:
    """Make one run, in a process of a pool that uses all cores."""
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    policy = load_base(WORK, EVERY_TASK[case.task].base)
    return run(case, policy)


def key_of(record: dict[str, Any]) -> str:
    """Return the key of a record's case."""
    return Case(*(record[name] for name in ("task", "arm", "preference", "seed"))).key


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    """Return the finished runs by their key; a line that was cut off counts as not run."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        found[key_of(record)] = record
    return found
