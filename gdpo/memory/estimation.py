"""What a training will need in memory, told from a model's configuration before its weights are loaded.

The passes are run on the `meta` device in `trace.py`; what stays (weights, adapter, optimiser, cache) is
arithmetic. A training needs the most of its phases, not their sum: sampling and update never happen at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..allocator import heap_share
from ..errors import PolicyError
from ..policies.adapter import fresh_config, wrap
from ..policies.folder_checks import check_model_folder
from ..policies.precision import resolve_device, resolve_precision, weights_dtype
from ..settings import TrainSettings
from .traced_passes import trace_prefill, trace_update
from .weights import (
    build,
    file_bytes,
    optimizer_bytes,
    sampling_copies,
    stand_ins,
    weight_bytes,
)

_MB = 2**20
# What libraries keep for themselves: workspaces of matrix products, and what does not fill a page or a block.
_OVERHEAD = 32 * _MB
# Of the logits of a sampled token: themselves, and log-probabilities, probabilities and their sums in fp32.
_SAMPLING_COPIES = 3


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training needs.

    Attributes:
        parts: What is held, by name; not all of it at the same time.
        phases: The peak in each phase, by name.
        device: Where.
        free: Of the device, before the model is loaded (or after, where `loaded`).
        capacity: Of the device.
        loaded: Whether the weights are among what is taken already.
    """

    parts: dict[str, int]
    phases: dict[str, int]
    device: str
    free: int
    capacity: int
    loaded: bool = False

    @property
    def total(self) -> int:
        """The largest phase."""
        return max(self.phases.values())

    @property
    def missing(self) -> int:
        """What is still to be found of the total."""
        return self.total - (self.parts["weights"] if self.loaded else 0)

    @property
    def fits(self) -> bool:
        """Whether that is free."""
        return self.missing <= self.free

    def table(self) -> str:
        """Parts and phases, one a line."""
        lines = [f"{name:<24}{show(size):>10}" for name, size in self.parts.items()]
        peaks = ", ".join(f"{name} {show(size)}" for name, size in self.phases.items())
        return "\n".join([*lines, f"peak: {peaks}", self.brief()])

    def brief(self) -> str:
        """One line: the total against what is free."""
        held = f", {show(self.parts['weights'])} of it loaded" if self.loaded else ""
        return (
            f"about {show(self.total)} of memory are needed{held}; free on {self.device}: "
            f"{show(self.free)} of {show(self.capacity)}"
        )


def show(size: float) -> str:
    """Bytes in MB or GB (of 1024)."""
    return f"{size / _MB:.0f} MB" if size < 1000 * _MB else f"{size / 1024 / _MB:.1f} GB"


def read_config(folder: Path) -> Any:
    """The configuration of the model in `folder`; nothing else is read.

    Raises:
        PolicyError: The folder holds no model that can be used.
    """
    from transformers import AutoConfig

    check_model_folder(folder)
    try:
        return AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # of many classes
        reason = " ".join(str(error).split())[:200]
        raise PolicyError(
            f"The config.json in {str(folder)!r} cannot be read ({reason}); get the model's original file."
        ) from error


def config_weight_bytes(config: Any, precision: str, device: str) -> tuple[int, str, str]:
    """Bytes of the weights, with the precision and the device that "auto" stands for.

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


def free_memory(device: str) -> tuple[int, int]:
    """Free bytes of the device for this process, and its capacity."""
    if device.startswith("cuda"):
        free, capacity = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + unused, capacity
    import psutil

    memory = psutil.virtual_memory()
    return memory.available, memory.total


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
    """The memory of a training whose completions use their full length.

    Args:
        config: The model's, as transformers reads it.
        settings: Of the training.
        rewards: K.
        precision: Of the weights, not "auto".
        device: "cpu", or a CUDA device.
        prompt_tokens: Of the longest prompt.
        adapter: Configuration of the adapter that is trained on; None: a fresh one.
        loaded: Whether the model is loaded already.

    Raises:
        PolicyError: The architecture cannot be run without its weights, or takes no adapter.
    """
    dtype = weights_dtype(precision, device)
    with _as_policy_error(config):
        base = build(config, dtype)
        weights, loading = weight_bytes(base, precision), file_bytes(config, base, dtype)
        copies, packing = sampling_copies(base, precision, device)
        share = heap_share(device, sum(p.numel() for p in base.parameters()))
        vocabulary = base.get_output_embeddings().weight.shape[0]
        lora = adapter or fresh_config(settings.lora_rank, settings.lora_alpha)
        with torch.device("meta"):
            model = wrap(stand_ins(base, precision), lora).eval()
        update, kept = trace_update(model, vocabulary, settings, rewards, prompt_tokens)
        cache, prefill = trace_prefill(model, vocabulary, settings, prompt_tokens)
        tensors = [p for p in model.parameters() if p.requires_grad]
    learned = sum(p.numel() * p.element_size() for p in tensors)
    completions = settings.prompts_per_step * settings.group_size
    chosen = completions * vocabulary * (dtype.itemsize + _SAMPLING_COPIES * 4)
    parts = {
        "weights": weights,
        "adapter": learned,
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
    free, capacity = free_memory(device)
    phases = _phases(parts, max(p.numel() * p.element_size() for p in tensors))
    if device == "cpu" and not loaded:
        phases = {"loading": weights + loading, **phases}
    return MemoryEstimate(parts, phases, device, free, capacity, loaded)


def _phases(parts: dict[str, int], largest: int) -> dict[str, int]:
    """Peak of each phase of a step."""
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
    """What an architecture that cannot be run without weights raises, in one line."""
    try:
        yield
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PolicyError(
            f"The memory of {getattr(config, 'model_type', None)!r} models cannot be told in advance "
            f"({type(error).__name__}: {reason}); watch the memory in the first steps."
        ) from error
