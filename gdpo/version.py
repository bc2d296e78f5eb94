"""The version of this pack, which `pyproject.toml` repeats for the registries."""

from __future__ import annotations

__version__ = "0.1.0"
