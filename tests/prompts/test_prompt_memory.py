"""Prompt files that are made to fill the memory: reading one stays below the bound that `prompt_files` states."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gdpo.prompts.lines import MAX_FILE_BYTES

BOUND = 2**30
SIZE = 60 * 2**20
ROOT = Path(__file__).resolve().parents[2]
# Reads a small file first, so that what Python and the pack themselves take is not counted.
CHILD = """
import json, resource, sys
from pathlib import Path
from gdpo.errors import PromptError
from gdpo.prompts import load_prompts

def peak():
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says begins with the memory of the parent
        lines = status.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

def load(name):
    try:
        return len(load_prompts(name)), ""
    except PromptError as error:
        return 0, str(error)

load(sys.argv[1])
before = peak()
rows, message = load(sys.argv[2])
print(json.dumps([rows, message, peak() - before]))
"""


def filled(row: str) -> str:
    """The row, until the file has its size."""
    return row * (SIZE // len(row.encode()))


def rows(columns: int, value: str, count: int) -> str:
    """Rows of so many columns, each with the value."""
    cells = "".join(f', "{n}": {value}' for n in range(columns))
    return f'{{"prompt": "a"{cells}}}\n' * count


def names() -> str:
    """An object with a list of rows, too long to be a row, and a million other names."""
    return (
        '{"x": [{}, "'
        + "a" * 900_000
        + '"], '
        + ", ".join(f'"{n:09}": "{n:040}"' for n in range(900_000))
        + "}"
    )


# A row of which one letter makes every character four bytes wide.
WIDE = json.dumps({"prompt": "a", "x": "a" * 900_000 + "\U0001f600"}, ensure_ascii=False)


# A file's name and content, and what its error says; None where it is read.
BOMBS = {
    "empty names": ("x.jsonl", lambda: filled('{"":0}\n'), "no column 'prompt'"),
    "short rows": ("x.jsonl", lambda: filled('{"prompt":"a"}\n'), "more than 500000 rows"),
    "one row": ("x.jsonl", lambda: '{"prompt": "' + "a" * SIZE + '"}', "longer than 1000000"),
    "open quote": ("x.csv", lambda: 'prompt\n"' + filled("a\n"), "not valid CSV"),
    "columns": ("x.csv", lambda: "prompt" + ",a" * 5_000_000, "longer than 1000000"),
    "columns of a row": ("x.jsonl", lambda: rows(1001, "0", 1), "has 1002 columns"),
    "one name": ("x.jsonl", lambda: filled("{" + '"a":0,' * 99_999 + '"a":0}\n'), "names 'a' twice"),
    "nesting": ("x.jsonl", lambda: filled('{"prompt":' + "[" * 900_000 + "\n"), "too deeply"),
    "empty lines": ("x.jsonl", lambda: "\n" * SIZE, "more than 5000000 lines"),
    "lists": ("x.jsonl", lambda: rows(1, "[" + "[]," * 99_999 + "[]]", 200), "3000000 values"),
    "cells": ("x.csv", lambda: "prompt,a,b,c,d,e,f\n" + "xy,ab,ab,ab,ab,ab,ab\n" * 490_000, "values"),
    "wide texts": ("x.jsonl", lambda: filled(WIDE + "\n"), None),
    "most rows and values": ("x.jsonl", lambda: rows(5, '"ab"', 499_999), None),
    "document": ("x.json", lambda: "[" + filled('{"prompt":"a"},')[:-1] + "]", "more than 500000 rows"),
    "wide document": ("x.json", lambda: f"[{filled(WIDE + ',')[:-1]}]", None),
    "text of a document": ("x.json", lambda: '["' + "a" * SIZE + '"]', "longer than 1000000"),
    "names of a document": ("x.json", lambda: names(), "more than 1000 names"),
    "lists of a document": ("x.json", lambda: '{"a":[' + filled("[],")[:-1] + "]}", "longer than"),
    "brackets in a text": ("x.txt", lambda: "[" * SIZE, "longer than 1000000"),
    "half a million lines": ("x.txt", lambda: "ab\n" * 500_000, None),
}  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts a process's memory otherwise")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_file_takes_no_more_memory_than_is_stated(bomb, tmp_path):
    name, content, message = BOMBS[bomb]
    (tmp_path / name).write_text(content(), encoding="utf-8", newline="")
    (tmp_path / "small.jsonl").write_text('{"prompt": "a"}')
    assert (tmp_path / name).stat().st_size <= MAX_FILE_BYTES
    command = [sys.executable, "-c", CHILD, str(tmp_path / "small.jsonl"), str(tmp_path / name)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    count, error, peak = json.loads(found.stdout)
    assert (message or "") in error
    assert bool(count) == (message is None), error
    assert peak < BOUND, f"{peak / 2**20:.0f} MiB"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts a process's memory otherwise")
@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "a" * 900_000 + "\U0001f600"], ids=["one", "wide"]
)
def test_a_parquet_file_takes_no_more_memory_either(text, tmp_path):
    """A long text that half a million rows share has a few bytes for each of them."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    shared = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 400_000), [text])
    parquet.write_table(pyarrow.table({"prompt": shared}), tmp_path / "x.parquet")
    small = pyarrow.table({"prompt": ["a"]})
    parquet.write_table(small, tmp_path / "small.parquet")
    names = [str(tmp_path / "small.parquet"), str(tmp_path / "x.parquet")]
    command = [sys.executable, "-c", CHILD, *names]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    count, error, peak = json.loads(found.stdout)
    assert count == 0
    assert "bad rows" in error or "64 MiB of text" in error
    assert peak < BOUND, f"{peak / 2**20:.0f} MiB"
