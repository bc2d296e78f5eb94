"""What a training needs in memory, told beforehand, and what happens when it runs out."""

from .estimation import MemoryEstimate, estimate, free_memory, read_config, show, weigh
from .remedies import explain_shortage, find_remedy
from .retreat import Retreat

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
