"""What a training will need in memory, told from a model's configuration before its weights are loaded.

The passes are run on the `meta` device in `trace.py`; what stays (weights, adapter, optimiser, cache) is
arithmetic. A training needs the most of its phases, not their sum: sampling and update never happen at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..allocator import heap_share
from ..errors import MODEL_REFUSALS, PolicyError
from ..evaluation.heldout import BATCH
from ..policies.adapter import fresh_config, wrap
from ..policies.configuration import build
from ..policies.precision import resolve_device, resolve_precision, weights_dtype
from ..polling import polled
from ..settings import TrainSettings
from .need import MemoryEstimate, free_memory
from .trace import tracing
from .traced_passes import Draw, Texts, trace_sampling, trace_update
from .weights import (
    TOKEN_BYTES,
    file_bytes,
    optimizer_bytes,
    sampling_copies,
    score_bytes,
    size_of,
    stand_ins,
    weight_bytes,
)

# What libraries keep for themselves: workspaces of matrix products, and what does not fill a page or a block.
_OVERHEAD = 32 * 2**20


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
    shortest_prompt: int | None = None,
    heldout: int = 0,
    tokens: int = 0,
    poll: Callable[[], None] = lambda: None,
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
        shortest_prompt: Length of the shortest prompt; None: all are as long as the longest.
        heldout: Number of prompts to evaluate on.
        tokens: Number of tokens that the model's tokenizer knows; 0: it is not counted.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        PolicyError: The architecture cannot be run without its weights, or takes no adapter.
    """
    with _as_policy_error(config):
        texts = Texts(prompt_tokens, min(prompt_tokens, shortest_prompt or prompt_tokens))
        parts, loading, largest = _parts(
            config, settings, rewards, precision, device, texts, heldout, adapter, poll
        )
    parts["tokenizer"] = tokens * TOKEN_BYTES if device == "cpu" else 0  # it is never on a card
    free, capacity = free_memory(device)
    phases = _phases(parts, largest, heldout)
    if device != "cpu" and max(phases.values()) - (parts["weights"] if loaded else 0) > free:
        parts["scores"] = 0  # they are kept in main memory then, see `retreat`
        phases = _phases(parts, largest, heldout)
    if device == "cpu" and not loaded:
        phases = {"loading": parts["weights"] + parts["tokenizer"] + loading, **phases}
    return MemoryEstimate(parts, phases, device, free, capacity, loaded)


def _parts(
    config: Any,
    settings: TrainSettings,
    rewards: int,
    precision: str,
    device: str,
    texts: Texts,
    heldout: int,
    adapter: dict[str, Any] | None,
    poll: Callable[[], None],
) -> tuple[dict[str, int], int, int]:
    """Return bytes of all that is held; bytes of the model's files while it is loaded; bytes of the largest trained tensor."""
    dtype = weights_dtype(precision, device)
    base = build(config, dtype)
    weights, loading = weight_bytes(base, precision), file_bytes(config, base, dtype)
    copies = sampling_copies(base, precision, device)
    share = heap_share(device, sum(p.numel() for p in base.parameters()))
    vocabulary = base.get_output_embeddings().weight.shape[0]
    lora = adapter or fresh_config(settings.lora_rank, settings.lora_alpha)
    with torch.device("meta"), tracing(base, vocabulary):  # the layers to adapt are found by a pass
        model = wrap(stand_ins(base, precision), lora).eval()
    draws = [Draw(settings.prompts_per_step, settings.group_size), Draw(min(heldout, BATCH), 1)]
    with polled(model, poll):
        update, kept = trace_update(model, vocabulary, settings, rewards, texts)
        (cache, passes), *evaluation = (
            trace_sampling(model, vocabulary, settings, texts.longest, draw)
            for draw in draws
            if draw.prompts
        )
    tensors = [p for p in model.parameters() if p.requires_grad]
    scores, working = score_bytes(settings, tensors, dtype)
    parts = {
        "weights": weights,
        "adapter": sum(map(size_of, tensors)),
        "optimiser": optimizer_bytes(settings.optimizer, tensors),
        "gradients": kept,
        "scores": scores,
        "natural step": working,
        "cache": cache,
        "sampling's copies": copies,
        "sampling's passes": passes,
        "evaluation": sum(map(sum, evaluation)),
        "activations": update["others"] - kept,
        "logits": update["logits"],
        "holes in the heap": round((share - 1) * (update["others"] - kept)),
        "overhead": _OVERHEAD,
    }
    return parts, loading, max(map(size_of, tensors))


def _phases(parts: dict[str, int], largest: int, heldout: int) -> dict[str, int]:
    """Return the peak of each phase of a step, and of an evaluation where there are held-out prompts."""
    always = parts["weights"] + parts["tokenizer"] + parts["adapter"] + parts["optimiser"]
    always += parts["overhead"]
    evaluating = always + parts["sampling's copies"] + parts["evaluation"]
    return {
        "sampling": always
        + parts["sampling's copies"]
        + parts["cache"]
        + parts["sampling's passes"],
        "update": always
        + parts["gradients"]
        + parts["scores"]
        + parts["activations"]
        + parts["holes in the heap"]
        + parts["logits"],
        # The gradient as the optimiser takes it or the natural direction, and what is computed for one tensor.
        "step": always
        + parts["gradients"]
        + parts["scores"]
        + parts["adapter"]
        + max(2 * largest, parts["natural step"]),
        **({"evaluation": evaluating} if heldout else {}),
    }


@contextmanager
def _as_policy_error(config: Any) -> Iterator[None]:
    """Raise in one line what an architecture raises that cannot be run without weights."""
    try:
        yield
    except MODEL_REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        raise PolicyError(
            f"The memory of {getattr(config, 'model_type', None)!r} models cannot be told in advance "
            f"({type(error).__name__}: {reason}); watch the memory in the first steps."
        ) from error
