"""Measures the updates of `benchmarks.cost` in processes of their own.

    python -m benchmarks.cost.measure {times,memory,adapter} --help

`ks` is for plain and one_pass, `naive_ks` for the ways that make K backward passes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import peft
import torch
import transformers.models.llama.modeling_llama
import transformers.models.qwen2.modeling_qwen2  # noqa: F401 - so that the memory's baseline has both

from benchmarks.common.batches import Batch, make_batch, make_optimizer, random_rollouts
from benchmarks.common.children import answer
from benchmarks.common.models import RANK, device_name, starter
from benchmarks.common.peaks import peak_mb, reset_peak, resident_mb
from benchmarks.common.updates import UPDATES, seconds_of, update
from gdpo.prompts import load_prompts
from gdpo.rollouts import Rollouts, sample
from gdpo.settings import TrainSettings
from gdpo.starter import TRAIN_PROMPTS

PROMPTS, GROUP, NEW_TOKENS, MICRO_BATCH = 4, 8, 48, 16
NAIVE = ("retained", "rerun")
# From here on the naive ways take long and are far from 1: one round tells enough.
MANY_REWARDS = 10
# Qwen2.5-0.5B's layers with random weights. Its size is what counts, so the vocabulary, which has no adapter, is short.
HALF_BILLION = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
    "tie_word_embeddings": True,
}
ADAPTER_KS = (1, 5, 20)


def times(
    precision: str, device: str, ks: list, naive_ks: list, rounds: int, naive_rounds: int
) -> dict[str, Any]:
    """Time each update next to a plain one just before it, round by round in a shuffled order.

    Returns:
        `seconds`: for each `"METHOD K"` the rounds' [plain update, update, sampling]; `tokens`, `device`.
    """
    draw = random.Random(0)
    pairs = _pairs(ks, naive_ks)
    found: dict[str, list[list[float]]] = {f"{method} {k}": [] for method, k in pairs}
    with starter(precision, device) as (model, tokenizer):
        rollouts, batches = _prepared(model, tokenizer, ks)
        for batch in batches.values():
            update("plain", batch)  # warms up
            update("one_pass", batch)
            update("natural", batch)
        for number in range(rounds):
            begin = time.perf_counter()
            rollouts = _sample(model, tokenizer)
            sampling = time.perf_counter() - begin
            due = [(m, k) for m, k in pairs if number < _rounds(m, k, rounds, naive_rounds)]
            for method, k in draw.sample(due, len(due)):
                both = [
                    seconds_of(partial(update, m, batches[k]), device) for m in ("plain", method)
                ]
                found[f"{method} {k}"].append([*both, sampling])
    return {"seconds": found, "tokens": int(rollouts.lengths.sum()), "device": device_name(device)}


def memory(precision: str, device: str, ks: list, naive_ks: list) -> dict[str, Any]:
    """Return the peak memory of each update above the imported, idle process, in MB: model, adapter, optimiser and all."""
    baseline = resident_mb(device)
    with starter(precision, device) as (model, tokenizer):
        _, batches = _prepared(model, tokenizer, ks)
        found = peaks(batches, _pairs(ks, naive_ks), device, baseline)
    return {"mb": found, "baseline_mb": baseline, "device": device_name(device)}


def adapter(device: str) -> dict[str, Any]:
    """Memory that K rewards take on a half-billion model's adapter of rank 16: computed, and measured."""
    baseline = resident_mb(device)
    model = _half_billion(device)
    shapes = [tuple(p.shape) for p in model.parameters() if p.requires_grad]
    size = sum(a * b for a, b in shapes)
    rollouts = random_rollouts(model, rows=2, prompt=4, length=8)
    optimizer, settings = make_optimizer(model), TrainSettings(optimizer="adamw", micro_batch=2)
    batches = {k: make_batch(model, optimizer, rollouts, k, 2, settings) for k in ADAPTER_KS}
    pairs = [(m, k) for k in ADAPTER_KS for m in ("plain", "retained", "one_pass", "natural")]
    found = peaks(batches, pairs, device, baseline)
    return {
        "model_parameters": sum(p.numel() for p in model.parameters()),
        "adapter_parameters": size,
        "computed_mb": {
            "adapter_fp32": 4 * size / 2**20,
            "k_buffers_per_reward": 4 * size / 2**20,
            "sketch_per_reward": 4 * sum(max(shape) for shape in shapes) / 2**20,
        },
        "measured_mb": {key: round(peak[0], 1) for key, peak in found.items()},
    }


def _half_billion(device: str) -> Any:
    config = transformers.Qwen2Config(**HALF_BILLION)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(device)
    lora = peft.LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(model.eval().requires_grad_(False), lora)


def peaks(
    batches: dict[int, Batch], pairs: Sequence[tuple[str, int]], device: str, baseline: float
) -> dict[str, list[float]]:
    """Peaks of each method and K above the baseline, in MB: [allocated, reserved]."""
    first = next(iter(batches.values()))
    for way in UPDATES:  # warms up: the optimiser's state, and what libraries keep for good
        update(way, first)
    found: dict[str, list[float]] = {}
    again = [pair for pair in pairs if pair[0] not in NAIVE]
    for method, k in (*pairs, *again, *again):
        reset_peak(device)
        update(method, batches[k])
        now = [peak - baseline for peak in peak_mb(device)]
        # Memory that the allocator holds on to only adds: the smallest peak is nearest to the need.
        found[f"{method} {k}"] = min(now, found.get(f"{method} {k}", now))
    return found


def _pairs(ks: Sequence[int], naive_ks: Sequence[int]) -> list[tuple[str, int]]:
    return [(way, k) for k in ks for way in UPDATES if k in naive_ks or way not in NAIVE]


def _rounds(method: str, k: int, rounds: int, naive_rounds: int) -> int:
    if method not in NAIVE:
        return rounds
    return 1 if k >= MANY_REWARDS else naive_rounds


def _sample(model: Any, tokenizer: Any) -> Rollouts:
    prompts = load_prompts(TRAIN_PROMPTS)[:PROMPTS]
    return sample(model, tokenizer, prompts, group_size=GROUP, max_new_tokens=NEW_TOKENS, seed=0)


def _prepared(model: Any, tokenizer: Any, ks: Sequence[int]) -> tuple[Rollouts, dict[int, Batch]]:
    rollouts = _sample(model, tokenizer)
    settings = TrainSettings(optimizer="adamw", max_new_tokens=NEW_TOKENS, micro_batch=MICRO_BATCH)
    optimizer = make_optimizer(model)
    return rollouts, {k: make_batch(model, optimizer, rollouts, k, GROUP, settings) for k in ks}


if __name__ == "__main__":
    answer(times, memory, adapter)
