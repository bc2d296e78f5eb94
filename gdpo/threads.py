"""How long the threads of numeric libraries wait for work before they sleep; standard library only."""

from __future__ import annotations

from collections.abc import Mapping

# Threads without work that spin for ever slow a busy machine down by up to 40 times; those that sleep at once wake up
# late. GNU's OpenMP counts turns, Intel's and LLVM's milliseconds. `run.py`, which imports nothing, has them too.
WAITING = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}


def waiting_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for a process whose threads shall sleep soon; none where `environment` has a policy of the user's."""
    return {} if "OMP_WAIT_POLICY" in environment else dict(WAITING)
