"""Measures an update over T and V: log-probabilities in chunks, or all logits at once.

    python -m benchmarks.speed.logits times --device cpu --vocabulary 2048 --lengths '[64]'
    python -m benchmarks.speed.logits memory --device cpu --vocabulary 2048 --tokens 64 --way {chunks,"all logits"}

Both ways make the same update with three rewards; they differ in how the completions are scored. "all logits" is
the usual way: the logits of all completion tokens in fp32, of which the chosen ones and the norms are taken. It is
frugal in that the entropy needs no second copy.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import peft  # noqa: F401 - so that the memory's baseline has it
import torch
import transformers.models.llama.modeling_llama
from torch import Tensor

from benchmarks.common.batches import Batch, make_batch, make_optimizer, random_rollouts
from benchmarks.common.children import answer
from benchmarks.common.models import RANK
from benchmarks.common.peaks import measurable, peak_mb, reset_peak, resident_mb
from benchmarks.common.updates import one_pass, seconds_of, step
from gdpo.memory import free_memory
from gdpo.policies.adapter import fresh_config, wrap
from gdpo.rollouts import Rollouts
from gdpo.settings import TrainSettings
from gdpo.starter import MODEL_DIR
from gdpo.update.logprobs import TokenScores, score_tokens
from gdpo.update.reward_gradients import RewardGradients

ROWS, PROMPT, REWARDS = 4, 16, 3
WARM_UP_TOKENS = 8
REPEATS = 2
# Copies seen at the peak: the logits, their gradient's parts and the sum of these. An update is tried only where they
# take no more than this share of the free memory.
COPIES, SHARE_OF_FREE = 5, 0.6

Scoring = Callable[[Any, Rollouts, Tensor, float], TokenScores]


def score_all(model: Any, rollouts: Rollouts, rows: Tensor, temperature: float) -> TokenScores:
    """Score as `score_tokens` does, through the logits of all tokens at once; temperature 1, nothing padded."""
    ids = torch.cat([rollouts.prompt_ids[rows], rollouts.completion_ids[rows]], 1)
    targets = rollouts.completion_ids[rows]
    kept = targets.shape[1] + 1
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits[:, :-1]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total = logits.logsumexp(-1)
    chosen = logits.gather(-1, targets[..., None]).squeeze(-1)
    with torch.no_grad():  # a row at a time: nothing of the logits' size is made again
        each = zip(logits, total, strict=True)
        entropy = torch.stack([t - (one.softmax(-1) * one).sum(-1) for one, t in each])
    return TokenScores(chosen - total, entropy)


WAYS: dict[str, Scoring] = {"chunks": score_tokens, "all logits": score_all}


def make_model(vocabulary: int, device: str) -> Any:
    """Make the starter's layers with random weights, this vocabulary and a fresh adapter."""
    torch.manual_seed(0)
    known = json.loads((MODEL_DIR / "config.json").read_text(encoding="utf-8"))
    known |= {"vocab_size": vocabulary, "max_position_embeddings": 4096}
    config = transformers.AutoConfig.for_model(known.pop("model_type"), **known)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(device)
    model.name_or_path = "random"
    return wrap(model.eval().requires_grad_(False), fresh_config(RANK, 2 * RANK))


def batch_of(model: Any, optimizer: torch.optim.Optimizer, tokens: int) -> Batch:
    """Make a batch of completions of `tokens` random tokens."""
    rollouts = random_rollouts(model, rows=ROWS, prompt=PROMPT, length=tokens)
    settings = TrainSettings(optimizer="adamw", micro_batch=ROWS, max_new_tokens=tokens)
    return make_batch(model, optimizer, rollouts, REWARDS, ROWS, settings)


def scored_by(score: Scoring) -> Callable[[Batch, Tensor, Tensor], RewardGradients]:
    """Make a way to take the gradients that scores all completions together by `score`."""

    def differentiated(batch: Batch, combined: Tensor, parts: Tensor) -> RewardGradients:
        rollouts, rows = batch.rollouts, torch.arange(parts.shape[1])
        gradients = RewardGradients(batch.model, combined, parts, seed=0)
        with gradients.recording():
            logprobs = score(batch.model, rollouts, rows, 1.0).logprobs
            gradients.backward(len(rows) / rollouts.lengths.sum() * logprobs.sum(1), rows)
        return gradients

    return differentiated


def update_by(way: str, batch: Batch) -> None:
    """Make one whole update whose completions are scored in one of the `WAYS`."""
    step(batch, one_pass(batch, scored_by(WAYS[way])))


def has_room(way: str, vocabulary: int, tokens: int, device: str) -> bool:
    """Tell whether the update takes no more than its share of the free memory."""
    need = COPIES * logits_mb(vocabulary, tokens)
    return way == "chunks" or need < SHARE_OF_FREE * free_memory(device)[0] / 2**20


def logits_mb(vocabulary: int, tokens: int) -> float:
    """Return the size of all logits in fp32, in MB."""
    return 4 * ROWS * tokens * vocabulary / 2**20


def times(device: str, vocabulary: int, lengths: list) -> dict[str, float]:
    """Return seconds of an update, the shortest of a few: `{"T way": seconds}`."""
    model = make_model(vocabulary, device)
    optimizer = make_optimizer(model)
    found: dict[str, float] = {}
    for tokens in (WARM_UP_TOKENS, *lengths):
        batch = batch_of(model, optimizer, tokens)
        ways = [way for way in WAYS if has_room(way, vocabulary, tokens, device)]
        for _ in range(REPEATS):
            for way in ways:
                key = f"{tokens} {way}"
                now = seconds_of(partial(update_by, way, batch), device)
                found[key] = min(now, found.get(key, now))
    return {key: round(seconds, 4) for key, seconds in found.items()}


def memory(device: str, vocabulary: int, tokens: int, way: str) -> dict[str, Any]:
    """Return the peak of an update, in MB above the loaded model with its optimiser."""
    if not measurable(device):
        raise SystemExit("peak memory of a CPU process can be measured on Linux only")
    if not has_room(way, vocabulary, tokens, device):
        raise SystemExit("the logits would take most of this machine's free memory")
    model = make_model(vocabulary, device)
    optimizer = make_optimizer(model)
    update_by(way, batch_of(model, optimizer, WARM_UP_TOKENS))
    batch = batch_of(model, optimizer, tokens)
    reset_peak(device)
    held = torch.cuda.memory_allocated() / 2**20 if device != "cpu" else resident_mb(device)
    update_by(way, batch)
    return {
        "way": way,
        "completion_tokens": tokens,
        "vocabulary": vocabulary,
        "all_logits_mb": round(logits_mb(vocabulary, tokens), 1),
        "peak_mb": round(peak_mb(device)[0] - held, 1),
    }


if __name__ == "__main__":
    answer(times, memory)
