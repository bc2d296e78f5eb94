"""Which methods reach all rewards of a task? Every run is recorded; a broken-off benchmark goes on where it was.

    python run.py bench convergence [--quick] [--workers N]

The full plan writes benchmarks/results/convergence_runs.jsonl as it goes, and from it convergence.json and
convergence.png; the quick one makes two runs of each method and writes to output/.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

from .arms import ABLATED, ABLATIONS, EVERYWHERE, LEADERS, MAIN, PATIENT
from .natural_arms import EXCHANGED, GATED, LEADING, ONE_DRAW
from .report import report
from .runs import DESK, MAIN_SEEDS, SETTINGS, WORK, Case, in_pool, key_of, load_base, read_records
from .tasks import PREFERENCES, TASKS
from .world import BASES

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
RARE_SEEDS, ABLATION_SEEDS, PATIENT_SEEDS = range(4), range(4), range(3)
DESK_SEEDS = range(1)
MORE_SEEDS = range(4, 8)  # of the leading arms alone, since 32 runs cannot tell 69 from 72 %
_FINDERS = ("gdpo", "gdpo, gated brevity", LEADING, ONE_DRAW, *GATED)
RARE = {"rare5": ("group_dpo", "gdpo_decoupled", *_FINDERS), "rarer5": _FINDERS}

logger = logging.getLogger(__name__)


def plan() -> Iterator[Case]:
    """Yield all runs, the most important first, seed by seed, so that a broken-off benchmark is balanced."""
    usual = [task for task in TASKS.values() if not task.rare]
    rare = [task for task in TASKS.values() if task.rare]
    for seed in MAIN_SEEDS:
        for preference in PREFERENCES:
            yield from (Case(t.name, arm, preference, seed) for t in usual for arm in EVERYWHERE)
    for seed in MORE_SEEDS:
        for preference in PREFERENCES:
            yield from (Case(t.name, arm, preference, seed) for t in usual for arm in LEADERS)
    yield from (Case(task.name, "frozen", "equal", 0) for task in TASKS.values())
    for seed in RARE_SEEDS:
        for preference in PREFERENCES:
            yield from (Case(t.name, arm, preference, seed) for t in rare for arm in RARE[t.name])
    for seed in PATIENT_SEEDS:
        for preference in PREFERENCES:
            yield from (Case("support10", arm, preference, seed) for arm in PATIENT)
    for task in usual:
        yield from (Case(task.name, f"only {m}", "equal", 0) for m in task.measures)
    for seed in ABLATION_SEEDS:
        for preference in PREFERENCES:
            yield from (Case(ABLATED, arm, preference, seed) for arm in (*ABLATIONS, *EXCHANGED))
    for seed in DESK_SEEDS:
        for preference in PREFERENCES:
            yield from (Case(DESK.name, arm, preference, seed) for arm in (*LEADERS, "group_dpo"))


def quick_plan() -> Iterator[Case]:
    """Yield one task, the methods, one seed."""
    for preference in PREFERENCES:
        yield from (Case(ABLATED, arm, preference, 0) for arm in MAIN)


def main(arguments: list[str]) -> int:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(prog="run.py bench convergence", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="eight runs, minutes")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    WORK.mkdir(parents=True, exist_ok=True)
    for base in BASES:
        load_base(WORK, base)  # once, before the processes need it

    results = WORK if options.quick else RESULTS
    results.mkdir(parents=True, exist_ok=True)
    records = results / ("quick_runs.jsonl" if options.quick else "convergence_runs.jsonl")
    done = read_records(records)
    cases = list(dict.fromkeys(quick_plan() if options.quick else plan()))
    missing = [case for case in cases if case.key not in done]
    logger.info("%d of %d runs are to be made", len(missing), len(cases))
    with get_context("spawn").Pool(options.workers) as pool, records.open("a") as file:
        for count, record in enumerate(pool.imap_unordered(in_pool, missing), 1):
            file.write(json.dumps(record) + "\n")
            file.flush()
            logger.info("%d/%d %s", count, len(missing), key_of(record))

    text = report(read_records(records), results, SETTINGS)
    logger.info("%s", text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
