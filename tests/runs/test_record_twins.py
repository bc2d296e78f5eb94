"""What Python and the page both know of a run's records is the same: the types, and what is computed from them."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
import pytest
from loaded_pack import submodule

plot_data = submodule("gdpo.plotting.data")
live = submodule("nodes.comfy.live")
record = submodule("gdpo.runs.record")
sequence = submodule("gdpo.runs.sequence")
shape = submodule("gdpo.runs.shape")

WEB = Path(__file__).resolve().parents[2] / "web"
TYPEDEF = re.compile(r"@typedef \{object\} (\w+)(.*?)\*/", re.DOTALL)
PROPERTY = re.compile(r"@property \{(.+)\} (\[?)(\w+)\]?")
SIMPLE = {
    int: "number",
    float: "number",
    bool: "boolean",
    str: "string",
    shape.Number: "number | null",
}


def in_javascript(kind) -> str:
    """A type of `gdpo/runs/record.py` as JSDoc writes it."""
    if is_typeddict(kind):
        return kind.__name__
    if get_origin(kind) is dict:
        return f"Record<string, {in_javascript(get_args(kind)[1])}>"
    if get_origin(kind) is list:
        inner = in_javascript(get_args(kind)[0])
        return f"({inner})[]" if " " in inner and not inner.endswith("[]") else f"{inner}[]"
    return SIMPLE[kind]


def fields(kind) -> dict[str, tuple[str, bool]]:
    """Name of each key -> its type as JSDoc writes it, and whether it is always there."""
    required = kind.__required_keys__
    return {
        name: (in_javascript(hint), name in required) for name, hint in get_type_hints(kind).items()
    }


def test_the_page_has_the_types_of_the_record():
    source = (WEB / "record.mjs").read_text(encoding="utf-8")
    found = {
        name: {key: (kind, not bracket) for kind, bracket, key in PROPERTY.findall(body)}
        for name, body in TYPEDEF.findall(source)
    }
    kinds = [record.RewardFigures, record.HeldoutFigures, record.LengthFigures, record.Evaluation]
    kinds += [record.Seconds, record.CompletionRecord]
    expected = {kind.__name__: fields(kind) for kind in kinds}
    step = fields(record.StepRecord)
    expected["StepRecord"] = {key: step[key] for key in live.SENT}
    assert found == expected


# --- the same data through both -----------------------------------------------------------------------

SCRIPT = """
import { readFileSync } from "node:fs";
const [data, record] = await Promise.all(
  ["chart_data.mjs", "record.mjs"].map((name) => import(process.argv[1] + "/" + name)));
const { joined, smoothed, maps } = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify({
  joined: joined.map((records) => records.reduce(record.withRecord, [])),
  smoothed: smoothed.map(data.smooth),
  maps: maps.map(({ records, count }) => data.meanCosines(records, count)),
}));
"""


def some_records(random_: random.Random) -> list[dict]:
    """Steps and evaluations as a run makes them, which now and then goes on from an earlier step."""
    records, step = [], 0
    for _ in range(random_.randrange(30)):
        if random_.random() < 0.2:
            step = random_.randrange(step + 1)
        if random_.random() < 0.3:
            records.append({"step": step, "eval": {"mark": random_.random()}, "converged": False})
        else:
            step += 1
            records.append({"step": step, "rewards": {"a": random_.random()}})
    return records


def some_numbers(random_: random.Random, count: int) -> list[float | None]:
    return [None if random_.random() < 0.2 else random_.uniform(-1, 1) for _ in range(count)]


@pytest.fixture(scope="module")
def both():
    """Seeded inputs, and what the page makes of them."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed, so the page's modules cannot run")
    random_ = random.Random(0)
    maps = []
    for _ in range(40):
        count = random_.randrange(2, 5)
        sizes = random_.choices([count, count + 1], [9, 1], k=random_.randrange(30))
        rows = [[some_numbers(random_, size) for _ in range(size)] for size in sizes]
        maps.append({
            "count": count,
            "records": [{"step": n, "cosines": one} for n, one in enumerate(rows)],
        })
    inputs = {
        "joined": [some_records(random_) for _ in range(60)],
        "smoothed": [some_numbers(random_, random_.randrange(150)) for _ in range(40)],
        "maps": maps,
    }
    done = subprocess.run(
        [node, "--input-type=module", "-e", SCRIPT, WEB.as_uri()],
        input=json.dumps(inputs),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return inputs, json.loads(done.stdout)


def test_both_join_a_record_to_those_before_it_in_the_same_way(both):
    inputs, page = both
    shortened = 0
    for records, theirs in zip(inputs["joined"], page["joined"], strict=True):
        ours = []
        for one in records:
            sequence.join_record(ours, one)
        assert ours == theirs
        shortened += len(ours) < len({one["step"] for one in records})
    assert shortened > 10  # runs that went on from an earlier step


def test_both_smooth_a_line_in_the_same_way(both):
    inputs, page = both
    for values, theirs in zip(inputs["smoothed"], page["smoothed"], strict=True):
        ours, _ = plot_data.smooth(np.array(values, dtype=float))
        np.testing.assert_allclose(ours, np.array(theirs, dtype=float), rtol=1e-12, atol=1e-15)


def test_both_average_the_last_quarter_of_the_cosines(both):
    inputs, page = both
    for case, theirs in zip(inputs["maps"], page["maps"], strict=True):
        ours = plot_data.PlottedRun(case["records"], "run", "-").cosines(case["count"])
        assert (ours is None) == (theirs is None)
        if ours is not None:
            expected = np.array(theirs, dtype=float)
            np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)
