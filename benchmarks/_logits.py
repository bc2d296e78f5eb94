"""Time and peak memory of an update over T and V: log-probabilities in chunks, or all logits at once.

    python -m benchmarks._logits times DEVICE V T,T,...
    python -m benchmarks._logits memory DEVICE V T {chunks,all logits}

Each prints one line of JSON. Both ways make the same update with three rewards; what differs is how the
completions are scored. "all logits" is the usual way: the logits of all completion tokens in fp32, of which
the chosen ones and the norms are taken; frugal in that the entropy needs no second copy.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import peft  # noqa: F401 - so that the baseline of the memory has it
import torch
import transformers.models.llama.modeling_llama
from torch import Tensor

from benchmarks._cost_child import _random_rollouts
from benchmarks._memory import measurable, peak_mb, reset_peak, resident_mb
from benchmarks._updates import Batch, make_batch, make_optimizer, one_pass
from gdpo.memory import free_memory
from gdpo.policies.adapter import fresh_config, wrap
from gdpo.rollouts import Rollouts
from gdpo.settings import TrainSettings
from gdpo.starter import MODEL_DIR
from gdpo.update import passes as update
from gdpo.update.logprobs import TokenScores, score_tokens

ROWS, PROMPT, REWARDS, RANK = 4, 16, 3, 16
WARM_UP_TOKENS = 8
REPEATS = 2
# Seen at the peak: the logits, their gradient's parts and the sum of these. More than this share is not tried.
COPIES, SHARE_OF_FREE = 5, 0.6


def score_all(model: Any, rollouts: Rollouts, rows: Tensor, temperature: float) -> TokenScores:
    """As `gdpo.logprobs.score_tokens`, through the logits of all tokens at once; temperature 1, nothing padded."""
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


WAYS = {"chunks": score_tokens, "all logits": score_all}


def make_model(vocabulary: int, device: str) -> Any:
    """The starter's layers with random weights and this vocabulary, and a fresh adapter."""
    torch.manual_seed(0)
    known = json.loads((MODEL_DIR / "config.json").read_text(encoding="utf-8"))
    known |= {"vocab_size": vocabulary, "max_position_embeddings": 4096}
    config = transformers.AutoConfig.for_model(known.pop("model_type"), **known)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(device)
    model.name_or_path = "random"
    return wrap(model.eval().requires_grad_(False), fresh_config(RANK, 2 * RANK))


def batch_of(model: Any, optimizer: torch.optim.Optimizer, tokens: int) -> Batch:
    """Completions of `tokens` random tokens."""
    rollouts = _random_rollouts(model, rows=ROWS, prompt=PROMPT, length=tokens)
    settings = TrainSettings(micro_batch=ROWS, max_new_tokens=tokens)
    return make_batch(model, optimizer, rollouts, REWARDS, ROWS, settings)


def step(way: str, batch: Batch, device: str) -> float:
    """Seconds of one update."""
    update.score_tokens = WAYS[way]  # the whole difference; this process does nothing else
    begin = time.perf_counter()
    one_pass(batch)
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def has_room(way: str, vocabulary: int, tokens: int, device: str) -> bool:
    """Whether the update takes no more than a part of what is free."""
    need = COPIES * logits_mb(vocabulary, tokens)
    return way == "chunks" or need < SHARE_OF_FREE * free_memory(device)[0] / 2**20


def logits_mb(vocabulary: int, tokens: int) -> float:
    """Size of all logits in fp32."""
    return 4 * ROWS * tokens * vocabulary / 2**20


def times(device: str, vocabulary: int, lengths: Sequence[int]) -> dict[str, Any]:
    """Seconds of an update, the shortest of a few: `{"T way": seconds}`."""
    model = make_model(vocabulary, device)
    optimizer = make_optimizer(model)
    found: dict[str, float] = {}
    for tokens in (WARM_UP_TOKENS, *lengths):
        batch = batch_of(model, optimizer, tokens)
        ways = [way for way in WAYS if has_room(way, vocabulary, tokens, device)]
        for _ in range(REPEATS):
            for way in ways:
                key, now = f"{tokens} {way}", step(way, batch, device)
                found[key] = min(now, found.get(key, now))
    return {key: round(seconds, 4) for key, seconds in found.items()}


def memory(device: str, vocabulary: int, tokens: int, way: str) -> dict[str, Any]:
    """Peak of an update, in MB above the loaded model with its optimiser."""
    if not measurable(device):
        raise SystemExit("peak memory of a CPU process can be measured on Linux only")
    if not has_room(way, vocabulary, tokens, device):
        raise SystemExit("the logits would take most of this machine's free memory")
    model = make_model(vocabulary, device)
    optimizer = make_optimizer(model)
    step(way, batch_of(model, optimizer, WARM_UP_TOKENS), device)
    batch = batch_of(model, optimizer, tokens)
    reset_peak(device)
    held = torch.cuda.memory_allocated() / 2**20 if device != "cpu" else resident_mb(device)
    step(way, batch, device)
    return {
        "way": way,
        "completion_tokens": tokens,
        "vocabulary": vocabulary,
        "all_logits_mb": round(logits_mb(vocabulary, tokens), 1),
        "peak_mb": round(peak_mb(device)[0] - held, 1),
    }


def main(arguments: list[str]) -> None:
    """Measure what the arguments say."""
    what, device, vocabulary, tokens, *way = arguments
    if what == "memory":
        found = memory(device, int(vocabulary), int(tokens), way[0])
    else:
        found = times(device, int(vocabulary), [int(part) for part in tokens.split(",")])
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
