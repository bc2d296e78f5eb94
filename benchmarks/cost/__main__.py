"""Measures what directing costs: the update with K rewards, against a fixed-weight step and K backward passes.

    python run.py bench cost [--quick]

Times: in one process for each precision, every update is timed right after a plain one, round by round in a
shuffled order, and the median of the ratios counts: a busy machine slows both alike. Memory: another process for
each precision, peak of each update above the imported, idle process. Side by side: TRL's GRPOTrainer on the
same model, prompts, rewards and settings (`pip install "trl>=1.16,<2"`, otherwise it is left out). The result
goes to benchmarks/results/cost.json, that of --quick to the screen only.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import statistics
import sys
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from benchmarks.common.children import ChildError, run_child
from benchmarks.common.peaks import EXACT_HEAP
from benchmarks.common.results import RESULTS, machine, write

MEASURE, TRAINING = "benchmarks.cost.measure", "benchmarks.common.trl_peer"
KS = (1, 2, 5, 10, 20)
PRECISIONS = ("fp32", "bf16", "int8", "nf4")
# Without a card, K passes are measured for every K in one precision only: they take minutes and tell the same.
FEW_KS = (1, 2, 5)
LEFT_OUT = "retained and rerun at K = 10 and 20 in bf16, int8 and nf4"
ROUNDS, NAIVE_ROUNDS = 5, 2
TRL_STEPS, QUICK_STEPS = 20, 3
TRL_ARMS = ("trl", "gdpo_decoupled", "gdpo")
# Steps at the end of a reward curve that are averaged.
LAST_STEPS = 5

logger = logging.getLogger(__name__)


def rows_of(
    precision: str, device: str, ks: Sequence[int], naive_ks: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """Return all rows of one precision, as ratios to the plain step with as many rewards."""
    what = {"precision": precision, "device": device, "ks": list(ks), "naive_ks": list(naive_ks)}
    naive_rounds = min(rounds, NAIVE_ROUNDS)
    times = run_child(MEASURE, "times", rounds=rounds, naive_rounds=naive_rounds, **what)
    memory = run_child(MEASURE, "memory", environment=EXACT_HEAP, **what)["mb"]
    rows = []
    for key, seconds in times["seconds"].items():
        method, count = key.split()
        row = {
            "k": int(count),
            "precision": precision,
            "device": times["device"],
            "method": method,
            **ratios(seconds, memory[key], memory[f"plain {count}"], device),
        }
        rows.append(row)
        logger.info("%s", row)
    return rows


def ratios(
    seconds: list[list[float]], peak: list[float], base: list[float], device: str
) -> dict[str, Any]:
    """Compare an update with the plain one.

    Args:
        seconds: Seconds of each round: [plain update, update, sampling].
        peak: Peaks of the update in MB: [allocated, reserved].
        base: Peaks of the plain update, likewise.
        device: Device that they were measured on.
    """
    updates = [update / plain for plain, update, _ in seconds]
    steps = [(update + rest) / (plain + rest) for plain, update, rest in seconds]
    reserved = {} if device == "cpu" else {"reserved_ratio": round(peak[1] / base[1], 4)}
    return {
        "update_time_ratio": round(statistics.median(updates), 3),
        "step_time_ratio": round(statistics.median(steps), 3),
        "memory_ratio": round(peak[0] / base[0], 4),
        "update_seconds": round(statistics.median(update for _, update, _ in seconds), 4),
        "update_time_range": [round(min(updates), 3), round(max(updates), 3)],
        "memory_mb": round(peak[0], 1),
        **reserved,
    }


def side_by_side(device: str, steps: int) -> dict[str, Any]:
    """Train by TRL's trainer and by ours, one after the other, each in a process of its own."""
    missing = [name for name in ("trl", "datasets") if importlib.util.find_spec(name) is None]
    if missing:
        return {"not_measured": f'{missing[0]} is not installed: pip install "trl>=1.16,<2"'}
    found = {}
    for arm in TRL_ARMS:
        try:
            found[arm] = run_child(TRAINING, "training", arm=arm, steps=steps, device=device)
        except ChildError as error:
            return {"not_measured": f"{arm}: {error}"}
        curves = found[arm]["rewards"]
        found[arm]["last_rewards"] = {
            name: round(statistics.mean(values[-LAST_STEPS:]), 4) for name, values in curves.items()
        }
        logger.info("%s: %s", arm, {k: v for k, v in found[arm].items() if k != "rewards"})
    from importlib.metadata import version

    return {
        "trl_version": version("trl"),
        "steps": steps,
        "arms": found,
        "step_time_ratio": _to_trl(found, "step_seconds"),
        "memory_ratio": _to_trl(found, "memory_mb"),
    }


def _to_trl(found: dict[str, Any], key: str) -> dict[str, float]:
    base = found["trl"][key]
    return {arm: round(one[key] / base, 3) for arm, one in found.items() if arm != "trl"}


def measure(device: str, *, quick: bool) -> dict[str, Any]:
    """Measure what runs on this machine; the rest is listed with its reason."""
    precisions, ks = (("fp32",), (1, 5)) if quick else (PRECISIONS, KS)
    rows, missing = [], {}
    for precision in precisions:
        everything = quick or device != "cpu" or precision == precisions[0]
        naive_ks = ks if everything else FEW_KS
        try:
            rows += rows_of(precision, device, ks, naive_ks, 2 if quick else ROUNDS)
        except ChildError as error:  # bitsandbytes may be absent; say so in the result
            missing[precision] = str(error)
            logger.warning("%s: %s", precision, error)
    if device == "cpu" and not quick:
        missing[LEFT_OUT] = "they take minutes on a CPU and tell the same as in fp32"
    trl = side_by_side(device, QUICK_STEPS if quick else TRL_STEPS)
    return {"machine": machine(), "rows": rows, "not_measured": missing, "trl": trl}


def renewed(known: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a result with rows in the place of those of the same K, precision and way."""
    key = itemgetter("k", "precision", "method")
    new = {key(row) for row in rows}
    kept = [row for row in known["rows"] if key(row) not in new]
    return {**known, "rows": [*kept, *rows]}


def main(arguments: list[str]) -> int:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(prog="run.py bench cost", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fp32, K = 1 and 5, a short side by side"
    )
    told = "this precision, without the ways that make K passes; other rows stay in the file"
    parser.add_argument("--only", choices=PRECISIONS, help=told)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.only:
        known = json.loads((RESULTS / "cost.json").read_text(encoding="utf-8"))
        write("cost", renewed(known, rows_of(options.only, device, KS, (), ROUNDS)))
        return 0
    result = measure(device, quick=options.quick)
    if not options.quick:
        try:
            result["adapter"] = run_child(MEASURE, "adapter", environment=EXACT_HEAP, device=device)
        except ChildError as error:
            result["adapter"] = {"not_measured": str(error)}
        logger.info("adapter: %s", result["adapter"])
        write("cost", result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
