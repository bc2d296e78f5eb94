"""Compares the memory estimate with what a training takes.

    python run.py bench memory [--quick]

Each cell trains for two steps in a process of its own, on random weights of a real configuration, so that
completions reach their full length. On a CPU the peak is that of the resident set, less what it was before the
model was loaded and after a tiny model was trained in the same process (so that all libraries are there); on CUDA
it is what the allocator gave out. Loading, sampling and update have peaks of their own, estimated and measured.
Results go to benchmarks/results/memory.json; a cell that fails or takes too long is listed there with the reason.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common.models import SHAPES, make_model
from benchmarks.common.results import RESULTS, machine, write
from benchmarks.memory.cells import CELLS, QUICK, Cell
from benchmarks.memory.rows import row_of
from gdpo.errors import GDPOError

# Changes that make a tiny model of a shape, which brings all libraries in.
SMALL = {"intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 2048}

logger = logging.getLogger(__name__)


def add(result: dict[str, Any], cell: Cell, place: Path, device: str) -> None:
    """Measure one cell into the result; a cell that cannot be measured is listed with its reason.

    Args:
        result: Result so far, which is changed.
        cell: Cell to measure.
        place: Folder for the models.
        device: Device to train on.
    """
    folder, tiny = place / cell.model, place / f"tiny {cell.model}"
    label = f"{named(cell)}: "
    result["not_measured"] = [m for m in result["not_measured"] if not m.startswith(label)]
    try:
        if not folder.exists():
            shape = SHAPES[cell.model]
            make_model(tiny, {**shape, **SMALL})
            make_model(folder, shape)
        row = row_of(folder, tiny, device, cell)
    except (RuntimeError, OSError, GDPOError) as error:
        result["not_measured"].append(f"{label}{error}")
        logger.warning("%s", result["not_measured"][-1])
        return
    result["rows"] = rows = [r for r in result["rows"] if r["setting"] != row["setting"]] + [row]
    result["within_15_percent"] = f"{sum(r['within'] for r in rows)} of {len(rows)}"
    logger.info("%s", {name: row[name] for name in row if name != "parts_mb"})


def named(cell: Cell) -> str:
    """Return the settings of a cell in one line."""
    return ", ".join(map(str, cell))


def main(arguments: list[str]) -> int:
    """Measure all cells, one at a time, and write the result."""
    parser = argparse.ArgumentParser(prog="run.py bench memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two cells; nothing is written")
    parser.add_argument(
        "--only", default="", help="settings that have this; other rows stay in the file"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    missing = ["CUDA: no card on this machine"] if device == "cpu" else []
    empty = {"machine": machine(), "rows": [], "within_15_percent": "", "not_measured": missing}
    known = RESULTS / "memory.json"
    keep = options.only and known.exists()
    result: dict[str, Any] = json.loads(known.read_text(encoding="utf-8")) if keep else empty
    with tempfile.TemporaryDirectory() as place:
        for cell in QUICK if options.quick else CELLS:
            if options.only in named(cell):
                add(result, cell, Path(place), device)
                if not options.quick:
                    write("memory", result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
