"""Export to GGUF through llama.cpp: merge, convert, quantise, verify."""

from __future__ import annotations

from .formats import EXPORT_TYPES
from .pipeline import GGUF, export_gguf

__all__ = ["EXPORT_TYPES", "GGUF", "export_gguf"]
