"""Writes results files, and names the machine that they are from."""

from __future__ import annotations

import json
import logging
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"

logger = logging.getLogger(__name__)


def machine() -> str:
    """Name the processor, its cores and the version of torch in one line."""
    import torch

    return f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"


def write(name: str, result: dict[str, Any]) -> None:
    """Write `result` as results/NAME.json."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    logger.info("written to %s", path)
