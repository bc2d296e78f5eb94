"""How fast a step is, and its parts: sampling against other engines, the whole step against TRL's GRPOTrainer.

    python run.py bench speed [--quick]

Sampling: tokens per second of our engine, `generate`, continuous batching and llama.cpp, taking turns in one
process. Step: the same training by TRL and by us, each in a process of its own, in turns (`pip install
"trl>=1.16,<2"`, otherwise left out). The result goes to benchmarks/results/speed.json, that of --quick to the screen.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import _rollout
from benchmarks._results import machine, write
from benchmarks.cost import ChildError, child

ROOT = Path(__file__).resolve().parents[1]
STEPS, ROUNDS = 6, 3

logger = logging.getLogger(__name__)


def steps_against_trl(device: str, rounds: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One row for each of our methods: time and memory of a step as shares of TRL's; and what failed."""
    found: dict[str, list[dict[str, Any]]] = {"trl": [], "gdpo_decoupled": [], "gdpo": []}
    for _ in range(rounds):
        for arm, runs in found.items():
            try:
                runs.append(child("_trl", arm, STEPS, device))
            except ChildError as error:
                return [], {f"step: {arm}": str(error)}
    rows = []
    for arm in ("gdpo_decoupled", "gdpo"):
        pairs = list(zip(found[arm], found["trl"], strict=True))
        update, step = (
            statistics.median(run[key] for run in found[arm])
            for key in ("update_seconds", "step_seconds")
        )
        rows.append({
            "model": "starter",
            "method": arm,
            "time_ratio_to_trl": _median_ratio(pairs, "step_seconds"),
            "memory_ratio_to_trl": _median_ratio(pairs, "memory_mb"),
            "step_seconds": round(step, 3),
            "trl_step_seconds": round(
                statistics.median(r["step_seconds"] for r in found["trl"]), 3
            ),
            "share_of_update": round(update / step, 3),
        })
        logger.info("%s", json.dumps(rows[-1]))
    return rows, {}


def _median_ratio(pairs: list[tuple[dict[str, Any], dict[str, Any]]], key: str) -> float:
    return round(statistics.median(ours[key] / theirs[key] for ours, theirs in pairs), 3)


def main(arguments: list[str]) -> int:
    """Measure what runs here and write the result."""
    parser = argparse.ArgumentParser(prog="run.py bench speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two batches, one round")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    batches, rounds = ((8, 32), 2) if options.quick else (_rollout.BATCHES, _rollout.ROUNDS)
    rollout, missing = _rollout.measure(batches, rounds=rounds)
    for row in rollout:
        logger.info("%s", json.dumps(row))
    step, failed = steps_against_trl(device, 1 if options.quick else ROUNDS)
    result = {
        "machine": machine(),
        "rollout": rollout,
        "step": step,
        "not_measured": missing | failed,
    }
    if not options.quick:
        write("speed", result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
