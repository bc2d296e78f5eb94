"""The heap gives large blocks back while a training runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from memory_estimates import told

from gdpo.allocator import heap_share

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_choice(monkeypatch):
    """Nobody has chosen for the C library."""
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)


# What is resident before, with and after 200 MB of tensors, each next to a small one that lives on.
PROBE = """
import torch
from gdpo.allocator import returning_freed_memory

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

with returning_freed_memory("cpu"):
    with returning_freed_memory("cpu"):
        pass
    found = [resident()]
    pairs = [(torch.ones(500_000), torch.ones(100)) for _ in range(100)]
    found.append(resident())
    pairs = [small for _, small in pairs]
    found.append(resident())
    print(*found)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_the_heap_gives_large_blocks_back_until_the_last_user_leaves(no_choice):
    """In a process of its own: what other tests leave in the heap would be filled first."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, cwd=ROOT
    )
    before, held, after = map(float, done.stdout.split())
    assert held - before > 150
    assert after - before < 20


def test_holes_are_expected_of_small_models_on_a_plain_heap_only(
    tiny_folder, monkeypatch, no_choice
):
    if heap_share("cpu", 1000) == 1:
        pytest.skip("needs glibc")
    parts = told(tiny_folder).parts
    assert 0 < parts["holes in the heap"] < parts["activations"]
    assert heap_share("cpu", 10**9) == heap_share("cuda:0", 1000) == 1
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    assert told(tiny_folder).parts["holes in the heap"] == 0
