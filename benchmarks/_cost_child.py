"""What `benchmarks.cost` measures in processes of their own; each prints one line of JSON.

    python -m benchmarks._cost_child times PRECISION DEVICE K,K,... NAIVE_K,... ROUNDS NAIVE_ROUNDS
    python -m benchmarks._cost_child memory PRECISION DEVICE K,K,... NAIVE_K,...
    python -m benchmarks._cost_child adapter DEVICE

`K,K,...` is for plain and one_pass, `NAIVE_K,...` for the ways that make K backward passes.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peft  # noqa: F401 - so that the baseline of the memory has it
import torch
import transformers.models.llama.modeling_llama
import transformers.models.qwen2.modeling_qwen2  # noqa: F401 - likewise

from benchmarks._memory import peak_mb, reset_peak, resident_mb
from benchmarks._updates import UPDATES, Batch, make_batch, make_optimizer
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import trainable
from gdpo.prompts import load_prompts
from gdpo.rewards import Completion
from gdpo.rollouts import Rollouts, sample
from gdpo.settings import TrainSettings
from gdpo.starter import MODEL_DIR, TRAIN_PROMPTS
from gdpo.update.logprobs import score_tokens

PROMPTS, GROUP, NEW_TOKENS, MICRO_BATCH, RANK = 4, 8, 48, 16, 16
NAIVE = ("retained", "rerun")
# From here on the naive ways take long and are far from 1: one round tells enough.
MANY_REWARDS = 10
# Qwen2.5-0.5B's layers, with random weights and a short vocabulary, which has no adapter: its size is what counts.
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
    precision: str,
    device: str,
    ks: Sequence[int],
    naive_ks: Sequence[int],
    rounds: int,
    naive_rounds: int,
) -> dict[str, Any]:
    """Seconds of each update next to a plain one just before it, round by round in a shuffled order."""
    draw = random.Random(0)
    pairs = _pairs(ks, naive_ks)
    found: dict[str, list[list[float]]] = {f"{method} {k}": [] for method, k in pairs}
    with starter(precision, device) as (model, tokenizer):
        rollouts, batches = _prepared(model, tokenizer, ks)
        for batch in batches.values():  # warm-up
            UPDATES["plain"](batch)
            UPDATES["one_pass"](batch)
        for number in range(rounds):
            begin = time.perf_counter()
            rollouts = _sample(model, tokenizer)
            sampling = time.perf_counter() - begin
            due = [
                (method, k)
                for method, k in pairs
                if number < _rounds(method, k, rounds, naive_rounds)
            ]
            for method, k in draw.sample(due, len(due)):
                base = seconds_of("plain", batches[k], device)
                update = seconds_of(method, batches[k], device)
                found[f"{method} {k}"].append([base, update, sampling])
    return {"seconds": found, "tokens": int(rollouts.lengths.sum()), "device": name_of(device)}


def _pairs(ks: Sequence[int], naive_ks: Sequence[int]) -> list[tuple[str, int]]:
    return [(m, k) for k in ks for m in UPDATES if k in naive_ks or m not in NAIVE]


def _rounds(method: str, k: int, rounds: int, naive_rounds: int) -> int:
    if method not in NAIVE:
        return rounds
    return 1 if k >= MANY_REWARDS else naive_rounds


def seconds_of(method: str, batch: Batch, device: str) -> float:
    """Wall time of one update."""
    begin = time.perf_counter()
    UPDATES[method](batch)
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def memory(
    precision: str, device: str, ks: Sequence[int], naive_ks: Sequence[int]
) -> dict[str, Any]:
    """Peak memory of each update above the imported, idle process, in MB: model, adapter, optimiser and all."""
    baseline = resident_mb(device)
    with starter(precision, device) as (model, tokenizer):
        _, batches = _prepared(model, tokenizer, ks)
        found = peaks(batches, _pairs(ks, naive_ks), device, baseline)
    return {"mb": found, "baseline_mb": baseline, "device": name_of(device)}


def peaks(
    batches: dict[int, Batch], pairs: Sequence[tuple[str, int]], device: str, baseline: float
) -> dict[str, list[float]]:
    """(allocated, reserved) of each method and K."""
    first = next(iter(batches.values()))
    for update in UPDATES.values():  # warm-up: the optimiser's state, what libraries keep for good
        update(first)
    found: dict[str, list[float]] = {}
    again = [pair for pair in pairs if pair[0] not in NAIVE]
    for method, k in (*pairs, *again, *again):
        reset_peak(device)
        UPDATES[method](batches[k])
        now = [peak - baseline for peak in peak_mb(device)]
        # What the allocator holds on to only adds: the smallest is nearest to what is needed.
        found[f"{method} {k}"] = min(now, found.get(f"{method} {k}", now))
    return found


def adapter(device: str) -> dict[str, Any]:
    """The memory that K rewards take on a half-billion model's adapter of rank 16: computed, and measured."""
    from peft import LoraConfig, get_peft_model

    baseline = resident_mb(device)
    config = transformers.Qwen2Config(**HALF_BILLION)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(device)
    model = get_peft_model(
        model.eval().requires_grad_(False),
        LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    shapes = [tuple(p.shape) for p in model.parameters() if p.requires_grad]
    size = sum(a * b for a, b in shapes)
    weights = sum(p.numel() for p in model.parameters())
    settings = TrainSettings(micro_batch=2)
    rollouts = _random_rollouts(model, rows=2, prompt=4, length=8)
    optimizer = make_optimizer(model)
    batches = {k: make_batch(model, optimizer, rollouts, k, 2, settings) for k in ADAPTER_KS}
    pairs = [(m, k) for k in ADAPTER_KS for m in ("plain", "retained", "one_pass")]
    found = peaks(batches, pairs, device, baseline)
    return {
        "model_parameters": weights,
        "adapter_parameters": size,
        "computed_mb": {
            "adapter_fp32": 4 * size / 2**20,
            "k_buffers_per_reward": 4 * size / 2**20,
            "sketch_per_reward": 4 * sum(max(shape) for shape in shapes) / 2**20,
        },
        "measured_mb": {key: round(peak[0], 1) for key, peak in found.items()},
    }


@contextmanager
def starter(precision: str, device: str) -> Iterator[tuple[Any, Any]]:
    """The bundled model with a fresh adapter, and its tokenizer."""
    policy = load_policy(MODEL_DIR, precision=precision, device=device)
    with trainable(policy, rank=RANK, alpha=2 * RANK, seed=0) as model:
        yield model, policy.base.tokenizer


def _sample(model: Any, tokenizer: Any) -> Rollouts:
    prompts = load_prompts(TRAIN_PROMPTS)[:PROMPTS]
    return sample(model, tokenizer, prompts, group_size=GROUP, max_new_tokens=NEW_TOKENS, seed=0)


def _prepared(model: Any, tokenizer: Any, ks: Sequence[int]) -> tuple[Rollouts, dict[int, Batch]]:
    rollouts = _sample(model, tokenizer)
    settings = TrainSettings(max_new_tokens=NEW_TOKENS, micro_batch=MICRO_BATCH)
    optimizer = make_optimizer(model)
    return rollouts, {k: make_batch(model, optimizer, rollouts, k, GROUP, settings) for k in ks}


def _random_rollouts(model: Any, *, rows: int, prompt: int, length: int) -> Rollouts:
    """Random tokens with the log-probabilities that the model gives them."""
    device = next(model.parameters()).device
    ids = torch.randint(0, 1000, (rows, prompt + length), device=device)
    mask = torch.ones_like(ids)
    rollouts = Rollouts(
        ids[:, :prompt],
        mask[:, :prompt],
        ids[:, prompt:],
        mask[:, prompt:].bool(),
        torch.zeros(rows, length, device=device),
        (Completion("", length),) * rows,
    )
    with torch.no_grad():
        for row in range(rows):
            chosen = torch.tensor([row], device=device)
            rollouts.logprobs[row] = score_tokens(model, rollouts, chosen, 1.0).logprobs[0]
    return rollouts


def name_of(device: str) -> str:
    """The card's name, or cpu."""
    return torch.cuda.get_device_name() if device != "cpu" else "cpu"


def main(arguments: list[str]) -> None:
    """Measure what the arguments say."""
    what, *rest = arguments
    if what == "adapter":
        found = adapter(*rest)
    elif what == "memory":
        found = memory(rest[0], rest[1], _numbers(rest[2]), _numbers(rest[3]))
    else:
        lists = _numbers(rest[2]), _numbers(rest[3])
        found = times(rest[0], rest[1], *lists, int(rest[4]), int(rest[5]))
    print(json.dumps(found))  # noqa: T201


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main(sys.argv[1:])
