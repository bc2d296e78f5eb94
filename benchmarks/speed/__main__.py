"""Measures how fast a step is, and its parts: sampling, the whole step, the update's memory, growth and shares.

    python run.py bench speed [--quick] [--only PART,PART] [--output FOLDER]

rollout  tokens per second of our engine, `generate`, continuous batching and llama.cpp, in turns
step     the same training by TRL's GRPOTrainer and by us, in turns (`pip install "trl>=1.16,<2"`, or it is left out)
memory   time and peak of an update over T and V: log-probabilities in chunks against all logits at once
growth   the parts of a step over G, K and T
phases   the share of each phase in a step of the demo
cards    larger models on a CUDA card: share of the bandwidth limit in decoding, peak against card sizes

Everything runs in processes of its own. The result goes to benchmarks/results/speed.json, .md and .png after each
part; that of --quick only to the screen, unless --output names a folder. --only keeps the other
parts' last result, if it is from this machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common.children import ChildError
from benchmarks.common.results import RESULTS, machine
from benchmarks.speed.figure import figure
from benchmarks.speed.parts import PARTS
from benchmarks.speed.tables import page

logger = logging.getLogger(__name__)


def save(result: dict[str, Any], folder: Path) -> None:
    """Write JSON, tables and figure."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    (folder / "speed.json").write_text(text, encoding="utf-8")
    (folder / "speed.md").write_text(page(result), encoding="utf-8")
    figure(result, folder / "speed.png")


def main(arguments: list[str]) -> int:
    """Measure what runs on this machine, and write the result."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    result = _last(options)
    for name in options.only or PARTS:
        begin = time.perf_counter()
        try:
            result[name], missing = PARTS[name](device, options.quick)
        except ChildError as error:
            result[name], missing = None, {name: str(error)}
        result["not_measured"][name] = missing
        result["seconds"][name] = round(time.perf_counter() - begin)
        for what, reason in missing.items():
            logger.warning("not measured: %s: %s", what, reason)
        if options.output:
            save(result, options.output)
    return 0


def _last(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result to add to: the last one with --only, if this machine made it, else an empty one."""
    result: dict[str, Any] = {"machine": machine(), "not_measured": {}, "seconds": {}}
    if options.output and options.only and (options.output / "speed.json").exists():
        last = json.loads((options.output / "speed.json").read_text(encoding="utf-8"))
        result |= last if last["machine"] == machine() else {}
    return result


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py bench speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a few cells of each part, one round")
    parser.add_argument("--only", type=_names, help="parts, with commas between")
    parser.add_argument("--output", type=Path, help="folder for the result")
    options = parser.parse_args(arguments)
    if not options.quick and options.output is None:
        options.output = RESULTS
    return options


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(PARTS)):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
