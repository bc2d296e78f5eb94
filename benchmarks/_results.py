"""Where results go, and the machine they are from."""

from __future__ import annotations

import json
import logging
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"

logger = logging.getLogger(__name__)


def machine() -> str:
    """Processor, cores and torch, in a line."""
    import torch

    return f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"


def write(name: str, result: dict[str, Any]) -> None:
    """Write `result` as results/NAME.json."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    logger.info("written to %s", path)
