"""What a training needs in memory, told beforehand, and what happens when it runs out."""

from .estimation import MemoryEstimate, estimate, free_memory, read_config, show, weigh
from .limits import Retreat
from .remedies import explain_shortage, find_remedy

__all__ = [
    "MemoryEstimate",
    "Retreat",
    "estimate",
    "explain_shortage",
    "find_remedy",
    "free_memory",
    "read_config",
    "show",
    "weigh",
]
