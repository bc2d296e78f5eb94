"""How fast a step is, and its parts: sampling, the whole step, the update's memory, growth and shares.

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
import importlib.util
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import _cards, _sampling
from benchmarks._results import RESULTS, machine
from benchmarks._speed_figure import figure
from benchmarks._speed_report import exponents, page, step_row
from benchmarks.cost import ChildError, child

STEPS, TRL_ROUNDS = 6, 3
SIZES = ("32 x 64 by 16", "64 x 48 at once")  # of `_trl`, which is imported where TRL may be only
GROWTH_ROUNDS, DEMO_STEPS = 5, 20
LENGTHS, VOCABULARIES = (64, 256, 512), (2048, 32768, 131072)
NO_CARD = "no CUDA card on this machine; the program has run on a CPU with a small model only"
FOR_CARDS = (
    "decoding's share of the bandwidth limit",
    "0.5, 1.5, 3 and 7 B in bf16, int8 and nf4",
    "peaks against cards of 8, 12, 16 and 24 GB",
)
VLLM = {"vLLM": "it needs a CUDA card, and this program does not call it"}

logger = logging.getLogger(__name__)

# What a part found, and what it could not measure.
Found = tuple[Any, dict[str, str]]


def rollout(_device: str, quick: bool) -> Found:
    """A row for each engine, model, batch and length."""
    rows: list[dict[str, Any]] = []
    missing = {} if quick else dict(_sampling.LEFT_OUT)
    for race in _sampling.QUICK if quick else _sampling.RACES:
        place = f"{race.model}, {race.new_tokens} tokens"
        try:
            found = child("_sampling", *_sampling.arguments_of(race))
        except ChildError as error:
            missing[f"sampling: {place}"] = str(error)
            continue
        rows += [_shown(row) for row in found["rows"]]
        missing |= {f"{engine}: {place}": reason for engine, reason in found["missing"].items()}
    return rows, missing


def step(device: str, quick: bool) -> Found:
    """A row for each size and each of our methods: time and memory of a step as shares of TRL's; and what failed."""
    for name in ("trl", "datasets"):
        if importlib.util.find_spec(name) is None:
            return [], {"step": f'{name} is not installed: pip install "trl>=1.16,<2"'}
    rows, missing = [], {}
    for size in SIZES[:1] if quick else SIZES:
        runs: dict[str, list[dict[str, Any]]] = {"trl": [], "gdpo_decoupled": [], "gdpo": []}
        try:
            for _ in range(1 if quick else TRL_ROUNDS):
                for arm, found in runs.items():
                    found.append(child("_trl", "times", arm, STEPS, device, size))
        except ChildError as error:
            missing[f"step: {size}"] = str(error)
            continue
        theirs = runs.pop("trl")
        rows += [_shown(step_row(arm, size, ours, theirs)) for arm, ours in runs.items()]
    return rows, missing


def memory(device: str, quick: bool) -> Found:
    """A row for each T, V and way."""
    lengths, sizes = (LENGTHS[:1], VOCABULARIES[1:2]) if quick else (LENGTHS, VOCABULARIES)
    rows, missing = [], {}
    for size in sizes:
        try:
            seconds = child("_logits", "times", device, size, ",".join(map(str, lengths)))
        except ChildError as error:
            seconds, missing[f"update's time: V = {size}"] = {}, str(error)
        for tokens in lengths:
            for way in ("chunks", "all logits"):
                try:
                    row = child("_logits", "memory", device, size, tokens, way)
                except ChildError as error:
                    missing[f"update's memory: {way}, T = {tokens}, V = {size}"] = str(error)
                    continue
                rows.append(_shown({**row, "update_seconds": seconds.get(f"{tokens} {way}")}))
    return rows, missing


def growth(device: str, quick: bool) -> Found:
    """Seconds of the parts at each point, and how they grow."""
    found = child("_growth", "times", "growth", device, 1 if quick else GROWTH_ROUNDS)
    return _shown({**found, "exponents": exponents(found["rows"])}), {}


def phases(device: str, quick: bool) -> Found:
    """Share of each phase in a step of the demo."""
    return _shown(child("_growth", "times", "phases", device, 5 if quick else DEMO_STEPS)), {}


def cards(device: str, quick: bool) -> Found:
    """A row for each model and precision that a CUDA card runs."""
    if device == "cpu":
        return [], {**dict.fromkeys(FOR_CARDS, NO_CARD), **VLLM}
    rows, missing = [], dict(VLLM)
    for name in list(_cards.MODELS)[: 1 if quick else None]:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / name
            try:
                child("_cards", "make", folder, device)
            except ChildError as error:
                missing[name] = str(error)
                continue
            for precision in _cards.PRECISIONS:
                try:
                    row = child("_cards", "times", folder, device, precision)
                    rows.append(_shown({"model": name, "precision": precision, **row}))
                except ChildError as error:
                    missing[f"{name} in {precision}"] = str(error)
    return rows, missing


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    logger.info("%s", json.dumps(row))
    return row


PARTS: dict[str, Callable[[str, bool], Found]] = {
    "rollout": rollout,
    "step": step,
    "memory": memory,
    "growth": growth,
    "phases": phases,
    "cards": cards,
}


def save(result: dict[str, Any], folder: Path) -> None:
    """Write JSON, tables and figure."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    (folder / "speed.json").write_text(text, encoding="utf-8")
    (folder / "speed.md").write_text(page(result), encoding="utf-8")
    figure(result, folder / "speed.png")


def main(arguments: list[str]) -> int:
    """Measure what runs here and write the result."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    result: dict[str, Any] = {"machine": machine(), "not_measured": {}, "seconds": {}}
    if options.output and options.only and (options.output / "speed.json").exists():
        last = json.loads((options.output / "speed.json").read_text(encoding="utf-8"))
        result |= last if last["machine"] == machine() else {}
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


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py bench speed", description=__doc__)
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
