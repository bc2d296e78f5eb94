"""Makes one short training by TRL's GRPOTrainer or by ours: same model, prompts, rewards and settings.

    python -m benchmarks.common.trl_peer training --arm {trl,gdpo_decoupled,gdpo} --steps N --device D [--size SIZE]

TRL is needed by this program only: pip install "trl>=1.16,<2". Memory is measured on the heap that any training has.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from typing import Any

import peft
import torch
import transformers.models.llama.modeling_llama  # noqa: F401 - so that the memory's baseline has it

from benchmarks.common.children import answer
from benchmarks.common.peaks import measurable, peak_mb, reset_peak, resident_mb
from benchmarks.common.short_training import SEED, SETTINGS, SIZES, our_training, rewards, summary
from gdpo.policies.chat import encode_prompt, render_prompt
from gdpo.prompts import Prompt, load_prompts
from gdpo.rewards import Completion, Reward, score_rewards
from gdpo.starter import MODEL_DIR, TRAIN_PROMPTS
from gdpo.training.schedule import draw


def training(arm: str, steps: int, device: str, size: str = next(iter(SIZES))) -> dict[str, Any]:
    """Train for `steps` steps by TRL, or by this pack's method named `arm`."""
    logging.disable(logging.WARNING)
    if not measurable(device):
        raise SystemExit("peak memory of a CPU process can be measured on Linux only")
    if arm == "trl":
        return their_training(steps, device, SIZES[size])
    return our_training(arm, steps, device, SIZES[size])


def their_training(steps: int, device: str, size: dict[str, int]) -> dict[str, Any]:
    """Train by TRL's GRPOTrainer with `normalize_then_sum`, which is published GDPO."""
    from transformers import AutoTokenizer

    prompts, ends = load_prompts(TRAIN_PROMPTS), []
    baseline = resident_mb(device)
    reset_peak(device)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    # The same prompts in the same order, as the text that our own training gives to the model.
    count = size["prompts_per_step"]
    drawn = [p for step in range(1, steps + 1) for p in draw(prompts, count, step, SEED)]
    texts = [render_prompt(tokenizer, prompt) for prompt in drawn]
    same = all(
        tokenizer(text)["input_ids"] == encode_prompt(tokenizer, prompt)
        for text, prompt in zip(texts, drawn, strict=True)
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = _their_settings(steps, size, device)
        trainer = _trainer(tokenizer, texts, drawn, settings, folder, ends)
        trainer.train()
        peak = peak_mb(device)[0] - baseline
    logs = [one for one in trainer.state.log_history if "completions/mean_length" in one]
    curves = {
        reward.name: [one[f"rewards/{reward.name}/mean"] for one in logs] for reward in rewards()
    }
    lengths = [one["completions/mean_length"] for one in logs]
    return {**summary(ends, curves, lengths, peak), "same_prompt_tokens": same}


def _trainer(
    tokenizer: Any,
    texts: list[str],
    prompts: list[Prompt],
    settings: dict[str, Any],
    folder: str,
    ends: list[float],
) -> Any:
    """TRL's trainer, which adds the time of each step's end to `ends`."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    longest = settings["max_completion_length"]
    return GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32),
        processing_class=tokenizer,
        reward_funcs=[_wrapped(reward, prompts, longest) for reward in rewards()],
        args=GRPOConfig(folder, **settings),
        train_dataset=Dataset.from_list([
            {"prompt": text, "row": row} for row, text in enumerate(texts)
        ]),
        peft_config=_lora(),
        callbacks=[Clock()],
    )


def _lora() -> Any:
    """The adapter that ours trains as well."""
    return peft.LoraConfig(
        r=SETTINGS["lora_rank"],
        lora_alpha=SETTINGS["lora_alpha"],
        target_modules="all-linear",
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )


def _their_settings(steps: int, size: dict[str, int], device: str) -> dict[str, Any]:
    """Our settings in TRL's words; what is not named here has the same value there by default."""
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
    """Return a reward as TRL calls it: with texts and the columns of their rows."""

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


if __name__ == "__main__":
    answer(training)
