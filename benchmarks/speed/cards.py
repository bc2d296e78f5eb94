"""Measures on a CUDA card: decoding against the card's bandwidth, and a training's peak against card sizes.

    python -m benchmarks.speed.cards make --folder FOLDER --device cuda
    python -m benchmarks.speed.cards measure --folder FOLDER --device cuda --precision bf16

FOLDER is named as the model. The models have real configurations and random weights, made on the device. No card was
there when this was written: the program has run on a CPU with a small model only.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common.children import answer
from benchmarks.common.models import RANK, make_model, never_ending
from benchmarks.common.peaks import peak_mb, reset_peak
from benchmarks.common.short_training import rewards
from benchmarks.speed.shapes import MODELS

CARDS_GB = (8, 12, 16, 24)
PROMPTS, GROUP, NEW_TOKENS = 4, 8, 128
MICRO_BATCH, CHECKPOINTING = 4, True
# Memory of a card that the driver and the libraries take beside the allocator.
OVERHEAD_MB = 700
COPIED_BYTES, COPIES = 2**30, 10


def decode_share(
    *, weight_bytes: float, cache_bytes: float, step_seconds: float, bandwidth: float
) -> float:
    """Return the share of the memory-bandwidth limit that one decode step reaches.

    Args:
        weight_bytes: Bytes that are read once for all completions.
        cache_bytes: Bytes of the keys and values of all completions.
        step_seconds: Seconds of one token for each completion.
        bandwidth: Bytes per second.
    """
    return (weight_bytes + cache_bytes) / bandwidth / step_seconds


def fits(peak_mb: float) -> dict[str, bool]:
    """Tell whether a training with this peak fits into each card."""
    return {f"{size} GB": peak_mb + OVERHEAD_MB <= 1024 * size for size in CARDS_GB}


def bandwidth(device: str) -> float:
    """Return bytes per second that the device reads and writes in copying: what a decode step could reach."""
    import torch

    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target, seconds = torch.empty_like(source), []
    for _ in range(COPIES):
        begin = _now(device)
        target.copy_(source)
        seconds.append(_now(device) - begin)
    return 2 * COPIED_BYTES / min(seconds)


def decoding(folder: Path, device: str, precision: str) -> dict[str, float]:
    """Return tokens per second of our sampling with an adapter on, and the share of the bandwidth limit."""
    from gdpo.policies.loading import load_policy
    from gdpo.policies.policy import trainable

    policy, speed = load_policy(folder, precision=precision, device=device), bandwidth(device)
    tokenizer = policy.base.tokenizer
    never_ending(tokenizer, policy.base.model)
    with trainable(policy, rank=RANK, alpha=2 * RANK, seed=0) as model:
        _sample(model, tokenizer, NEW_TOKENS, device)  # warms up
        short, _ = _sample(model, tokenizer, NEW_TOKENS, device)
        long, prompt = _sample(model, tokenizer, 2 * NEW_TOKENS, device)
        # The prompts' part is the same in both: what is left are NEW_TOKENS steps.
        step = (long - short) / NEW_TOKENS
        rows = PROMPTS * GROUP
        cache = _cache_bytes_per_token(model) * rows * (prompt + 1.5 * NEW_TOKENS)
        share = decode_share(
            weight_bytes=_weight_bytes(model),
            cache_bytes=cache,
            step_seconds=step,
            bandwidth=speed,
        )
    return {
        "tokens_per_s": round(rows * NEW_TOKENS / short, 1),
        "decode_tokens_per_s": round(rows / step, 1),
        "copy_gb_per_s": round(speed / 1e9, 1),
        "share_of_bandwidth": round(share, 3),
    }


def _sample(model: Any, tokenizer: Any, tokens: int, device: str) -> tuple[float, int]:
    """Return seconds of sampling, and the prompts' width."""
    from gdpo.prompts import load_prompts
    from gdpo.rollouts import sample
    from gdpo.starter import TRAIN_PROMPTS

    prompts, begin = load_prompts(TRAIN_PROMPTS)[:PROMPTS], _now(device)
    found = sample(model, tokenizer, prompts, group_size=GROUP, max_new_tokens=tokens, seed=0)
    return _now(device) - begin, found.prompt_ids.shape[1]


def _weight_bytes(model: Any) -> float:
    """Return bytes of the weights that a step reads: all but an input embedding that is not the output head too."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    looked_up = embedding.nbytes if embedding is not head else 0
    return sum(parameter.nbytes for parameter in model.parameters()) - looked_up


def _cache_bytes_per_token(model: Any) -> float:
    config = model.config.get_text_config()
    width = config.num_key_value_heads * config.head_dim
    element = next(p for p in model.parameters() if p.is_floating_point()).element_size()
    return 2.0 * config.num_hidden_layers * width * element


def _now(device: str) -> float:
    if device != "cpu":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def measure(folder: Path, device: str, precision: str) -> dict[str, Any]:
    """Measure one row: decoding, and the peak of two steps of training."""
    found, peak = decoding(folder, device, precision), training_peak(folder, device, precision)
    return {**found, "peak_mb": round(peak), "fits": fits(peak)}


def training_peak(folder: Path, device: str, precision: str) -> float:
    """Return the peak of loading the model and of two steps with three rewards, in MB."""
    from gdpo.objective.objective import combine_rewards
    from gdpo.policies.loading import load_policy
    from gdpo.prompts import load_prompts
    from gdpo.settings import TrainSettings
    from gdpo.starter import TRAIN_PROMPTS
    from gdpo.training.trainer import train

    settings = TrainSettings(
        steps=2,
        prompts_per_step=PROMPTS,
        group_size=GROUP,
        max_new_tokens=NEW_TOKENS,
        lora_rank=RANK,
        optimizer="adamw",
        micro_batch=MICRO_BATCH,
        gradient_checkpointing=CHECKPOINTING,
    )
    reset_peak(device)
    policy = load_policy(folder, precision=precision, device=device)
    with tempfile.TemporaryDirectory() as place:
        objective = combine_rewards(rewards())
        train(policy, load_prompts(TRAIN_PROMPTS), objective, settings, Path(place) / "run")
    return peak_mb(device)[0]


def make(folder: Path, device: str) -> dict[str, Any]:
    """Write the model whose name the folder has; the device draws its weights."""
    import torch

    with torch.device(device):
        make_model(folder, MODELS[folder.name])
    return {"made": folder.name}


if __name__ == "__main__":
    answer(make, measure)
