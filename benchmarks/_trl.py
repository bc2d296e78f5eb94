"""One short training by TRL's GRPOTrainer or by ours, on the same model, prompts, rewards and settings.

    python -m benchmarks._trl times {trl,gdpo_decoupled,gdpo} STEPS DEVICE [SIZE]

Prints one line of JSON: times, and the peak of memory on the heap that any training has. TRL is needed
by this program only: pip install "trl>=1.16,<2".
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import peft
import torch
import transformers.models.llama.modeling_llama  # noqa: F401 - so that the baseline of the memory has it

from benchmarks._memory import measurable, peak_mb, reset_peak, resident_mb
from gdpo.objective.objective import combine_rewards
from gdpo.policies.chat import encode_prompt, render_prompt
from gdpo.policies.loading import load_policy
from gdpo.progress import Progress
from gdpo.prompts import Prompt, load_prompts
from gdpo.rewards import AnswerMatch, Completion, Conciseness, Politeness, Reward, score_rewards
from gdpo.settings import TrainSettings
from gdpo.starter import MODEL_DIR, TRAIN_PROMPTS
from gdpo.training.schedule import draw
from gdpo.training.trainer import train

# Completions and their longest, and how many pass the update together.
SIZES = {
    "32 x 64 by 16": {
        "prompts_per_step": 4,
        "group_size": 8,
        "max_new_tokens": 64,
        "micro_batch": 16,
    },
    "64 x 48 at once": {
        "prompts_per_step": 8,
        "group_size": 8,
        "max_new_tokens": 48,
        "micro_batch": 64,
    },
}
SETTINGS = {
    "learning_rate": 7e-4,
    "lora_rank": 16,
    "lora_alpha": 32,
    "warmup_steps": 5,
    "max_grad_norm": 1.0,
}
SEED = 0
# The first step of each warms up.
SKIPPED = 1


def rewards() -> list[Reward]:
    """Those of the quick start."""
    return [
        Reward("politeness", Politeness()),
        Reward("conciseness", Conciseness(longest=20, tolerance=30)),
        Reward("solves the problem", AnswerMatch(field="reference", mode="contains")),
    ]


def ours(method: str, steps: int, device: str, size: dict[str, int]) -> dict[str, Any]:
    """A training by this pack."""
    prompts = load_prompts(TRAIN_PROMPTS)
    settings = TrainSettings(
        steps=steps, eval_every=steps, checkpoint_every=steps, rng_seed=SEED, **SETTINGS, **size
    )
    ends, curves, parts, lengths = [], {}, [], []

    class Notes(Progress):
        def record(self, record: dict) -> None:
            if "rewards" not in record:
                return
            ends.append(time.perf_counter())
            parts.append(record["seconds"])
            lengths.append(record["length"]["mean"])
            for name, found in record["rewards"].items():
                curves.setdefault(name, []).append(found["mean"])

    baseline = resident_mb(device)
    reset_peak(device)
    policy = load_policy(MODEL_DIR, precision="fp32", device=device)
    objective = combine_rewards(rewards(), method=method)
    with tempfile.TemporaryDirectory() as folder:
        train(policy, prompts, objective, settings, Path(folder) / "run", progress=Notes())
        peak = peak_mb(device)[0] - baseline
    update = sorted(part["update"] for part in parts[SKIPPED:])
    return {
        **_summary(ends, curves, lengths, peak),
        "update_seconds": update[len(update) // 2],
    }


def theirs(steps: int, device: str, size: dict[str, int]) -> dict[str, Any]:
    """A training by TRL's GRPOTrainer with `normalize_then_sum`, which is published GDPO."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.perf_counter())

    prompts, clock = load_prompts(TRAIN_PROMPTS), Clock()
    count, longest = size["prompts_per_step"], size["max_new_tokens"]
    baseline = resident_mb(device)
    reset_peak(device)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    # The same prompts in the same order, as the text that our own training gives to the model.
    drawn = [p for step in range(1, steps + 1) for p in draw(prompts, count, step, SEED)]
    rows = [{"prompt": render_prompt(tokenizer, p), "row": i} for i, p in enumerate(drawn)]
    same = all(
        tokenizer(r["prompt"])["input_ids"] == encode_prompt(tokenizer, p)
        for r, p in zip(rows, drawn, strict=True)
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32),
            processing_class=tokenizer,
            reward_funcs=[_wrapped(reward, drawn, longest) for reward in rewards()],
            args=GRPOConfig(folder, **_their_settings(steps, size, device)),
            train_dataset=Dataset.from_list(rows),
            peft_config=peft.LoraConfig(
                r=SETTINGS["lora_rank"],
                lora_alpha=SETTINGS["lora_alpha"],
                target_modules="all-linear",
                lora_dropout=0.0,
                task_type="CAUSAL_LM",
            ),
            callbacks=[clock],
        )
        trainer.train()
        peak = peak_mb(device)[0] - baseline
    logs = [one for one in trainer.state.log_history if "completions/mean_length" in one]
    curves = {
        reward.name: [one[f"rewards/{reward.name}/mean"] for one in logs] for reward in rewards()
    }
    lengths = [one["completions/mean_length"] for one in logs]
    return {**_summary(clock.ends, curves, lengths, peak), "same_prompt_tokens": same}


def _their_settings(steps: int, size: dict[str, int], device: str) -> dict[str, Any]:
    """Ours in TRL's words; what is not named here has the same value there by default."""
    completions = size["prompts_per_step"] * size["group_size"]
    return {
        "max_steps": steps,
        "per_device_train_batch_size": size["micro_batch"],
        "gradient_accumulation_steps": completions // size["micro_batch"],
        "num_generations": size["group_size"],
        "max_completion_length": size["max_new_tokens"],
        "multi_objective_aggregation": "normalize_then_sum",
        "loss_type": "dapo",
        "beta": 0.0,
        "learning_rate": SETTINGS["learning_rate"],
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": SETTINGS["warmup_steps"],
        "adam_beta2": 0.99,  # as in gdpo/optimizers.py
        "weight_decay": 0.0,
        "max_grad_norm": SETTINGS["max_grad_norm"],
        "shuffle_dataset": False,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": device == "cpu",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": SEED,
    }


def _wrapped(reward: Reward, prompts: list[Prompt], limit: int) -> Callable[..., list[float]]:
    """A reward as TRL calls it: with texts and the columns of their rows."""

    def score(
        completions: list[str], completion_ids: list[list[int]], row: list[int], **_: Any
    ) -> list[float]:
        found = [
            Completion(text.strip(), len(ids), len(ids) >= limit)
            for text, ids in zip(completions, completion_ids, strict=True)
        ]
        return score_rewards([reward], [prompts[i] for i in row], found, lambda: None)[0].tolist()

    score.__name__ = reward.name
    return score


def _summary(
    ends: list[float], curves: dict[str, list[float]], lengths: list[float], peak: float
) -> dict[str, Any]:
    steps = sorted(b - a for a, b in pairwise(ends))
    return {
        "step_seconds": round(steps[len(steps) // 2], 4),
        "memory_mb": round(peak, 1),
        "rewards": {name: [round(v, 4) for v in values] for name, values in curves.items()},
        "lengths": [round(v, 1) for v in lengths],
    }


def main(arguments: list[str]) -> None:
    """Train what the arguments say."""
    logging.disable(logging.WARNING)
    who, steps, device = arguments[1], int(arguments[2]), arguments[3]
    if not measurable(device):
        raise SystemExit("peak memory of a CPU process can be measured on Linux only")
    size = SIZES[arguments[4]] if len(arguments) > 4 else next(iter(SIZES.values()))
    found = theirs(steps, device, size) if who == "trl" else ours(who, steps, device, size)
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
