"""What a training will need in memory, told from a model's configuration before its weights are loaded.

The passes are run on the `meta` device in `trace.py`; what stays (weights, adapter, optimiser, cache) is
arithmetic. A training needs the most of its phases, not their sum: sampling and update never happen at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..allocator import heap_share
from ..errors import PolicyError
from ..policies.adapter import fresh_config, wrap
from ..policies.configuration import build
from ..policies.precision import resolve_device, resolve_precision, weights_dtype
from ..settings import TrainSettings
from .need import MemoryEstimate, free_memory
from .trace import tracing
from .traced_passes import trace_prefill, trace_update
from .weights import (
    file_bytes,
    optimizer_bytes,
    sampling_copies,
    size_of,
    stand_ins,
    weight_bytes,
)

# What libraries keep for themselves: workspaces of matrix products, and what does not fill a page or a block.
_OVERHEAD = 32 * 2**20
# Copies of a sampled token's logits in fp32: log-probabilities, probabilities and their sums.
_SAMPLING_COPIES = 3


def config_weight_bytes(config: Any, precision: str, device: str) -> tuple[int, str, str]:
    """Return bytes of the weights, with the precision and the device that "auto" stands for.

    Raises:
        PolicyError: There is no such precision or device, or transformers does not know the architecture.
    """
    device = resolve_device(device)
    precision = resolve_precision(precision, device)
    with _as_policy_error(config):
        return (
            weight_bytes(build(config, weights_dtype(precision, device)), precision),
            precision,
            device,
        )


def estimate(
    config: Any,
    settings: TrainSettings,
    *,
    rewards: int,
    precision: str,
    device: str,
    prompt_tokens: int,
    adapter: dict[str, Any] | None = None,
    loaded: bool = False,
) -> MemoryEstimate:
    """Return the memory of a training whose completions use their full length.

    Args:
        config: Configuration of the model, as transformers reads it.
        settings: Settings of the training.
        rewards: K, the number of rewards.
        precision: Precision of the weights, not "auto".
        device: "cpu", or a CUDA device.
        prompt_tokens: Length of the longest prompt.
        adapter: Configuration of the adapter that is trained on; None: a fresh one.
        loaded: True if the model is loaded already.

    Raises:
        PolicyError: The architecture cannot be run without its weights, or takes no adapter.
    """
    with _as_policy_error(config):
        parts, loading, largest = _parts(
            config, settings, rewards, precision, device, prompt_tokens, adapter
        )
    free, capacity = free_memory(device)
    phases = _phases(parts, largest)
    if device == "cpu" and not loaded:
        phases = {"loading": parts["weights"] + loading, **phases}
    return MemoryEstimate(parts, phases, device, free, capacity, loaded)


def _parts(
    config: Any,
    settings: TrainSettings,
    rewards: int,
    precision: str,
    device: str,
    prompt_tokens: int,
    adapter: dict[str, Any] | None,
) -> tuple[dict[str, int], int, int]:
    """Return bytes of all that is held; bytes of the model's files while it is loaded; bytes of the largest trained tensor."""
    dtype = weights_dtype(precision, device)
    base = build(config, dtype)
    weights, loading = weight_bytes(base, precision), file_bytes(config, base, dtype)
    copies, packing = sampling_copies(base, precision, device)
    share = heap_share(device, sum(p.numel() for p in base.parameters()))
    vocabulary = base.get_output_embeddings().weight.shape[0]
    lora = adapter or fresh_config(settings.lora_rank, settings.lora_alpha)
    with torch.device("meta"), tracing(base, vocabulary):  # the layers to adapt are found by a pass
        model = wrap(stand_ins(base, precision), lora).eval()
    update, kept = trace_update(model, vocabulary, settings, rewards, prompt_tokens)
    cache, prefill = trace_prefill(model, vocabulary, settings, prompt_tokens)
    tensors = [p for p in model.parameters() if p.requires_grad]
    completions = settings.prompts_per_step * settings.group_size
    chosen = completions * vocabulary * (dtype.itemsize + _SAMPLING_COPIES * 4)
    parts = {
        "weights": weights,
        "adapter": sum(map(size_of, tensors)),
        "optimiser": optimizer_bytes(settings.optimizer, tensors),
        "gradients": kept,
        "cache": cache,
        "sampling's copies": copies,
        "sampling's passes": max(chosen, prefill),
        "packing for sampling": packing,
        "activations": update["others"] - kept,
        "logits": update["logits"],
        "holes in the heap": round((share - 1) * (update["others"] - kept)),
        "overhead": _OVERHEAD,
    }
    return parts, loading, max(map(size_of, tensors))


def _phases(parts: dict[str, int], largest: int) -> dict[str, int]:
    """Return the peak of each phase of a step."""
    always = parts["weights"] + parts["adapter"] + parts["optimiser"] + parts["overhead"]
    return {
        # The copies are made before the cache.
        "sampling": always
        + parts["sampling's copies"]
        + max(parts["packing for sampling"], parts["cache"] + parts["sampling's passes"]),
        "update": always
        + parts["gradients"]
        + parts["activations"]
        + parts["holes in the heap"]
        + parts["logits"],
        # The gradient as the optimiser takes it, and what it computes for one tensor.
        "step": always + parts["gradients"] + parts["adapter"] + 2 * largest,
    }


@contextmanager
def _as_policy_error(config: Any) -> Iterator[None]:
    """Raise in one line what an architecture raises that cannot be run without weights."""
    try:
        yield
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PolicyError(
            f"The memory of {getattr(config, 'model_type', None)!r} models cannot be told in advance "
            f"({type(error).__name__}: {reason}); watch the memory in the first steps."
        ) from error
