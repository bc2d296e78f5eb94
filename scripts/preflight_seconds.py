"""Measures how long the preflight takes that comes before a training's first step, for many short prompts.

    python scripts/preflight_seconds.py [--prompts 100000]

It is asked of the starter model, whose template is rendered in this process, and of a copy of it, which is a stranger's:
its template is rendered in the worker.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from shutil import copytree

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> int:
    """Print the seconds of each model, on the clock and on the processors."""
    sys.path.insert(0, str(ROOT))
    from gdpo.starter import MODEL_DIR

    parser = argparse.ArgumentParser(description="Measure the preflight of a training.")
    parser.add_argument("--prompts", type=int, default=100_000)
    count = parser.parse_args(arguments).prompts
    with tempfile.TemporaryDirectory() as folder:
        strangers = Path(copytree(MODEL_DIR, Path(folder) / "model"))
        for name, model in (("starter", MODEL_DIR), ("a stranger's", strangers)):
            sys.stdout.write(f"{name}: {measure(model, count, Path(folder) / 'run')}\n")
    return 0


def measure(model: Path, count: int, folder: Path) -> str:
    """Return the figures of one model as a line."""
    from gdpo.objective.objective import combine_rewards
    from gdpo.policies.loading import load_policy
    from gdpo.progress import Progress
    from gdpo.prompts import make_prompt
    from gdpo.rewards import AnswerMatch, Politeness, Reward
    from gdpo.settings import TrainSettings
    from gdpo.training.preflight import Planned, preflight

    rows = tuple(
        make_prompt(
            f"Customer {i}: my printer shows the error {i % 997}, what can I do about it today?",
            fields={"reference": str(i)},
            line=i + 1,
        )
        for i in range(count)
    )
    objective = combine_rewards([
        Reward("right", AnswerMatch(mode="numeric")),
        Reward("polite", Politeness()),
    ])
    planned = Planned(
        load_policy(model, device="cpu"), rows, (), objective, TrainSettings(), folder
    )
    clock, used = time.perf_counter(), processor_seconds()
    with ExitStack() as held:
        preflight(planned, held, Progress())
        wall, cpu = time.perf_counter() - clock, processor_seconds() - used
    return f"{count} prompts in {wall:.1f} s on the clock, {cpu:.1f} s on processors"


def processor_seconds() -> float:
    """Return what this process and its workers have used."""
    import psutil

    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(one.user + one.system for one in times)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
