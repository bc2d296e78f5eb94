"""What a training needs in memory, against what is free."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_MB = 2**20


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training needs.

    Attributes:
        parts: Bytes of each thing that is held, by name; not all at the same time.
        phases: The peak in each phase, by name.
        device: Device that they are needed on.
        free: Bytes that are free there before the model is loaded, or after it where `loaded`.
        capacity: All bytes of the device.
        loaded: Whether the weights and the tokenizer are among what is taken already.
    """

    parts: dict[str, int]
    phases: dict[str, int]
    device: str
    free: int
    capacity: int
    loaded: bool = False

    @property
    def total(self) -> int:
        """Return the largest phase."""
        return max(self.phases.values())

    @property
    def missing(self) -> int:
        """Return what is still to be found of the total."""
        return self.total - (self.held if self.loaded else 0)

    @property
    def held(self) -> int:
        """Return what the model takes that has been loaded: weights and tokenizer."""
        return self.parts["weights"] + self.parts.get("tokenizer", 0)

    @property
    def fits(self) -> bool:
        """Tell whether so much is free."""
        return self.missing <= self.free

    def table(self) -> str:
        """Return parts and phases, one a line."""
        lines = [f"{name:<24}{show(size):>10}" for name, size in self.parts.items()]
        peaks = ", ".join(f"{name} {show(size)}" for name, size in self.phases.items())
        return "\n".join([*lines, f"peak: {peaks}", self.brief()])

    def brief(self) -> str:
        """Return one line: the total against what is free."""
        held = f", {show(self.held)} of it loaded" if self.loaded else ""
        return (
            f"about {show(self.total)} of memory are needed{held}; free on {self.device}: "
            f"{show(self.free)} of {show(self.capacity)}"
        )


def show(size: float) -> str:
    """Return bytes in MB or GB (of 1024)."""
    return f"{size / _MB:.0f} MB" if size < 1000 * _MB else f"{size / 1024 / _MB:.1f} GB"


def free_memory(device: str) -> tuple[int, int]:
    """Free bytes of the device for this process, and its capacity."""
    if device.startswith("cuda"):
        free, capacity = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + unused, capacity
    import psutil

    memory = psutil.virtual_memory()
    return memory.available, memory.total
