"""Runs the tests as other processors would run them.

    python scripts/every_cpu.py [pytest's arguments]

PyTorch has kernels for several generations of processors, and adds in another order with each of
them, and with another number of threads. This runs the suite with the oldest kernels, with those
for AVX2 and with the machine's own, each with one thread and with two, and shows which runs fail.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ("default", "avx2", "native")  # "native": PyTorch chooses by the processor
THREADS = ("1", "2")


def environment(kernels: str, threads: str) -> dict[str, str]:
    """Return the variables of this process, with those that choose the kernels and the threads."""
    chosen = {name: value for name, value in os.environ.items() if name != "ATEN_CPU_CAPABILITY"}
    if kernels != "native":
        chosen["ATEN_CPU_CAPABILITY"] = kernels
    return chosen | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


def run(kernels: str, threads: str, arguments: list[str]) -> tuple[bool, str, float]:
    """Tell whether the tests passed, pytest's last line, and the seconds that they took."""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments],
        cwd=ROOT,
        env=environment(kernels, threads),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stdout.write(done.stdout)
    last = (done.stdout.strip().splitlines() or ["pytest said nothing"])[-1]
    if done.returncode < 0:
        last = f"ended by signal {-done.returncode}"
    return done.returncode == 0, last, time.monotonic() - begin


def main() -> int:
    """Run every combination and write the table.

    Returns:
        0 if the tests passed in all of them, else 1.
    """
    rows = []
    for kernels, threads in product(KERNELS, THREADS):
        passed, last, seconds = run(kernels, threads, sys.argv[1:])
        rows.append(passed)
        verdict = "passed" if passed else "FAILED"
        row = f"{kernels:8} {threads} thread{'s' if threads != '1' else ' '}  {verdict}"
        sys.stdout.write(f"{row}  {seconds:6.0f} s  {last.strip('= ')}\n")
        sys.stdout.flush()
    return 0 if all(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
