"""What directing costs: the update with K rewards, against a plain fixed-weight step and K backward passes.

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
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._results import machine, write

ROOT = Path(__file__).resolve().parents[1]
KS = (1, 2, 5, 10, 20)
PRECISIONS = ("fp32", "bf16", "int8", "nf4")
# Without a card, K passes are measured for every K in one precision only: they take minutes and tell the same.
FEW_KS = (1, 2, 5)
ROUNDS, NAIVE_ROUNDS = 5, 2
TRL_STEPS = 20
TRL_ARMS = ("trl", "gdpo_decoupled", "gdpo")
# Steps at the end of a reward curve that are averaged.
LAST_STEPS = 5
CHILD_SECONDS = 900

logger = logging.getLogger(__name__)


class ChildError(RuntimeError):
    """A measurement failed; the message is the last line of what it said."""


def child(module: str, *arguments: object) -> dict[str, Any]:
    """Run a measurement in a process of its own and read what it prints."""
    environment = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **os.environ,
    }
    if "times" not in arguments:  # how memory is given back costs time
        environment |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=CHILD_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"took longer than {CHILD_SECONDS} s") from error
    if done.returncode:
        raise ChildError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def rows_of(
    precision: str, device: str, ks: Sequence[int], naive_ks: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """All rows of one precision, as ratios to the plain step with as many rewards."""
    lists = (",".join(map(str, ks)), ",".join(map(str, naive_ks)))
    naive_rounds = min(rounds, NAIVE_ROUNDS)
    times = child("_cost_child", "times", precision, device, *lists, rounds, naive_rounds)
    memory = child("_cost_child", "memory", precision, device, *lists)
    rows = []
    for key, seconds in times["seconds"].items():
        method, count = key.split()
        peak, base = memory["mb"][key], memory["mb"][f"plain {count}"]
        ratios = [update / plain for plain, update, _ in seconds]
        steps = [(update + rest) / (plain + rest) for plain, update, rest in seconds]
        row = {
            "k": int(count),
            "precision": precision,
            "device": times["device"],
            "method": method,
            "update_time_ratio": round(statistics.median(ratios), 3),
            "step_time_ratio": round(statistics.median(steps), 3),
            "memory_ratio": round(peak[0] / base[0], 4),
            "update_seconds": round(statistics.median(update for _, update, _ in seconds), 4),
            "update_time_range": [round(min(ratios), 3), round(max(ratios), 3)],
            "memory_mb": round(peak[0], 1),
        }
        if device != "cpu":
            row["reserved_ratio"] = round(peak[1] / base[1], 4)
        rows.append(row)
        logger.info("%s", row)
    return rows


def side_by_side(device: str, steps: int) -> dict[str, Any]:
    """TRL's trainer and ours, one after the other, each in a process of its own."""
    missing = [name for name in ("trl", "datasets") if importlib.util.find_spec(name) is None]
    if missing:
        return {"not_measured": f'{missing[0]} is not installed: pip install "trl>=1.16,<2"'}
    found = {}
    for arm in TRL_ARMS:
        try:
            found[arm] = child("_trl", "times", arm, steps, device)
        except ChildError as error:
            return {"not_measured": f"{arm}: {error}"}
        curves = found[arm]["rewards"]
        found[arm]["last_rewards"] = {
            name: round(statistics.mean(values[-LAST_STEPS:]), 4) for name, values in curves.items()
        }
        logger.info("%s: %s", arm, {k: v for k, v in found[arm].items() if k != "rewards"})
    from importlib.metadata import version

    base = found["trl"]
    return {
        "trl_version": version("trl"),
        "steps": steps,
        "arms": found,
        "step_time_ratio": _to_trl(found, base, "step_seconds"),
        "memory_ratio": _to_trl(found, base, "memory_mb"),
    }


def _to_trl(found: dict[str, Any], base: dict[str, Any], key: str) -> dict[str, float]:
    return {arm: round(one[key] / base[key], 3) for arm, one in found.items() if arm != "trl"}


def main(arguments: list[str]) -> int:
    """Measure what runs here and write the result."""
    parser = argparse.ArgumentParser(prog="run.py bench cost", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fp32, K = 1 and 5, a short side by side"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    precisions, ks = (("fp32",), (1, 5)) if options.quick else (PRECISIONS, KS)
    rows, missing = [], {}
    for precision in precisions:
        everything = options.quick or device != "cpu" or precision == precisions[0]
        naive_ks = ks if everything else FEW_KS
        try:
            rows += rows_of(precision, device, ks, naive_ks, 2 if options.quick else ROUNDS)
        except ChildError as error:  # bitsandbytes may be absent; say so in the result
            missing[precision] = str(error)
            logger.warning("%s: %s", precision, error)
    if device == "cpu" and not options.quick:
        left = "retained and rerun at K = 10 and 20 in bf16, int8 and nf4"
        missing[left] = "they take minutes on a CPU and tell the same as in fp32"
    result = {
        "machine": machine(),
        "rows": rows,
        "not_measured": missing,
        "trl": side_by_side(device, 3 if options.quick else TRL_STEPS),
    }
    if not options.quick:
        try:
            result["adapter"] = child("_cost_child", "adapter", device)
        except ChildError as error:
            result["adapter"] = {"not_measured": str(error)}
        logger.info("adapter: %s", result["adapter"])
        write("cost", result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
