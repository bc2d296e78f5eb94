"""Runs the parts of the speed benchmark, each in processes of its own."""

from __future__ import annotations

import importlib.util
import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common.children import ChildError, run_child
from benchmarks.common.peaks import EXACT_HEAP
from benchmarks.common.short_training import SIZES
from benchmarks.speed.races import LEFT_OUT, QUICK, RACES
from benchmarks.speed.shapes import MODELS, PRECISIONS
from benchmarks.speed.slopes import exponents, step_row

STEPS, TRL_ROUNDS = 6, 3
GROWTH_ROUNDS, DEMO_STEPS, QUICK_DEMO_STEPS = 5, 20, 5
LENGTHS, VOCABULARIES = (64, 256, 512), (2048, 32768, 131072)
WAYS = ("chunks", "all logits")
NO_CARD = "no CUDA card on this machine; the program has run on a CPU with a small model only"
FOR_CARDS = (
    "decoding's share of the bandwidth limit",
    "0.5, 1.5, 3 and 7 B in bf16, int8 and nf4",
    "peaks against cards of 8, 12, 16 and 24 GB",
)
VLLM = {"vLLM": "it needs a CUDA card, and this program does not call it"}

logger = logging.getLogger(__name__)

# What a part found, and the reason for everything that it could not measure.
Found = tuple[Any, dict[str, str]]


def rollout(_device: str, quick: bool) -> Found:
    """Race the sampling engines; a row for each engine, model, batch and length."""
    rows: list[dict[str, Any]] = []
    missing = {} if quick else dict(LEFT_OUT)
    for race in QUICK if quick else RACES:
        place = f"{race.model}, {race.new_tokens} tokens"
        try:
            found = run_child("benchmarks.speed.sampling", "run", **asdict(race))
        except ChildError as error:
            missing[f"sampling: {place}"] = str(error)
            continue
        rows += [_shown(row) for row in found["rows"]]
        missing |= {f"{engine}: {place}": reason for engine, reason in found["missing"].items()}
    return rows, missing


def step(device: str, quick: bool) -> Found:
    """Compare whole steps with TRL's: a row for each size and each of our methods."""
    for name in ("trl", "datasets"):
        if importlib.util.find_spec(name) is None:
            return [], {"step": f'{name} is not installed: pip install "trl>=1.16,<2"'}
    rows, missing = [], {}
    for size in list(SIZES)[:1] if quick else SIZES:
        runs: dict[str, list[dict[str, Any]]] = {"trl": [], "gdpo_decoupled": [], "gdpo": []}
        what = {"steps": STEPS, "device": device, "size": size}
        try:
            for _ in range(1 if quick else TRL_ROUNDS):
                for arm, found in runs.items():
                    found.append(
                        run_child("benchmarks.common.trl_peer", "training", arm=arm, **what)
                    )
        except ChildError as error:
            missing[f"step: {size}"] = str(error)
            continue
        theirs = runs.pop("trl")
        rows += [_shown(step_row(arm, size, ours, theirs)) for arm, ours in runs.items()]
    return rows, missing


def memory(device: str, quick: bool) -> Found:
    """Score in chunks and all logits at once: a row for each T, V and way."""
    lengths, sizes = (LENGTHS[:1], VOCABULARIES[1:2]) if quick else (LENGTHS, VOCABULARIES)
    rows, missing = [], {}
    for size in sizes:
        what = {"device": device, "vocabulary": size}
        try:
            seconds = run_child("benchmarks.speed.logits", "times", lengths=list(lengths), **what)
        except ChildError as error:
            seconds, missing[f"update's time: V = {size}"] = {}, str(error)
        for tokens in lengths:
            for way in WAYS:
                try:
                    row = _peak(tokens, way, what)
                except ChildError as error:
                    missing[f"update's memory: {way}, T = {tokens}, V = {size}"] = str(error)
                    continue
                rows.append(_shown({**row, "update_seconds": seconds.get(f"{tokens} {way}")}))
    return rows, missing


def _peak(tokens: int, way: str, what: dict[str, Any]) -> dict[str, Any]:
    module = "benchmarks.speed.logits"
    return run_child(module, "memory", environment=EXACT_HEAP, tokens=tokens, way=way, **what)


def growth(device: str, quick: bool) -> Found:
    """Measure the parts of a step at each point, and how they grow."""
    rounds = 1 if quick else GROWTH_ROUNDS
    found = run_child("benchmarks.speed.growth", "growth", device=device, rounds=rounds)
    return _shown({**found, "exponents": exponents(found["rows"])}), {}


def phases(device: str, quick: bool) -> Found:
    """Measure the share of each phase in a step of the demo."""
    steps = QUICK_DEMO_STEPS if quick else DEMO_STEPS
    return _shown(run_child("benchmarks.speed.phases", "phases", device=device, steps=steps)), {}


def cards(device: str, quick: bool) -> Found:
    """Measure larger models on a CUDA card: a row for each model and precision."""
    if device == "cpu":
        return [], {**dict.fromkeys(FOR_CARDS, NO_CARD), **VLLM}
    rows, missing = [], dict(VLLM)
    module = "benchmarks.speed.cards"
    for name in list(MODELS)[: 1 if quick else None]:
        with tempfile.TemporaryDirectory() as place:
            what = {"folder": Path(place) / name, "device": device}
            try:
                run_child(module, "make", environment=EXACT_HEAP, **what)
            except ChildError as error:
                missing[name] = str(error)
                continue
            for precision in PRECISIONS:
                try:
                    row = run_child(module, "measure", precision=precision, **what)
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
