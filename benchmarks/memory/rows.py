"""Makes one row of the result: the estimate of a setting beside what its training took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.common.children import run_child
from benchmarks.memory.cells import Cell
from benchmarks.memory.measure import KINDS, prompts

WITHIN = 0.15
# A cell takes 10 to 60 s on two cores; all of them about ten minutes.
CELL_SECONDS = 240
# Names of the trainer's phases, and the estimate's phases that each holds.
PHASES = {"sampling": ("sampling",), "updating": ("update", "step")}


def foretell(folder: Path, device: str, cell: Cell) -> Any:
    """Return the estimate of a cell, from the folder's configuration."""
    from transformers import AutoTokenizer

    from gdpo.memory import estimate
    from gdpo.policies.chat import encode_prompt
    from gdpo.policies.configuration import read_config

    tokenizer = AutoTokenizer.from_pretrained(folder)
    lengths = [len(encode_prompt(tokenizer, prompt)) for prompt in prompts()]
    return estimate(
        read_config(folder),
        cell.settings,
        rewards=len(KINDS),
        precision=cell.precision,
        device=device,
        prompt_tokens=max(lengths),
        shortest_prompt=min(lengths),
        tokens=len(tokenizer),
    )


def row_of(folder: Path, tiny: Path, device: str, cell: Cell) -> dict[str, Any]:
    """Return one row of the result.

    Raises:
        ChildError: The cell cannot be measured.
    """
    told = foretell(folder, device, cell)
    what = {"folder": folder, "tiny": tiny, "device": device, "cell": cell}
    found = run_child("benchmarks.memory.measure", "peaks", time_limit=CELL_SECONDS, **what)
    baseline = found.pop("baseline")
    expected = {"loading": told.phases.get("loading", told.held)}
    for name, parts in PHASES.items():
        expected[name] = max(told.phases[part] for part in parts)
    training = max(size for name, size in expected.items() if name != "loading") / 2**20
    peak = max(size for name, size in found.items() if name != "loading") - baseline
    return {
        "setting": cell._asdict(),
        "estimate_mb": round(training),
        "measured_mb": round(peak),
        "ratio": round(training / peak, 3),
        "within": abs(training / peak - 1) <= WITHIN,
        "phases_mb": {
            name: {"estimate": round(size / 2**20), "measured": round(found[name] - baseline)}
            for name, size in expected.items()
        },
        "parts_mb": {name: round(size / 2**20) for name, size in told.parts.items()},
        "baseline_mb": round(baseline),
    }
