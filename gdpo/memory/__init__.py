"""What a training needs in memory, told beforehand, and what happens when it runs out."""

from .estimation import config_weight_bytes, estimate
from .need import MemoryEstimate, free_memory, show
from .remedies import explain_shortage, find_remedy
from .retreat import Limits, Retreat

__all__ = [
    "Limits",
    "MemoryEstimate",
    "Retreat",
    "config_weight_bytes",
    "estimate",
    "explain_shortage",
    "find_remedy",
    "free_memory",
    "show",
]
