"""Run folders that somebody damaged or made up: whatever reads them gives a result or one of the pack's own errors.

`--cases N` damages so many.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loaded_pack import PACK, submodule

from gdpo.to_json import to_json

diagnosis = submodule("gdpo.runs.diagnosis")
errors = submodule("gdpo.errors")
figure = submodule("gdpo.plotting.figure")
history = submodule("gdpo.runs.history")
host = submodule("nodes.comfy.host")
live = submodule("nodes.comfy.live")
loading = submodule("gdpo.policies.loading")
objectives = submodule("gdpo.objective.objective")
prompts = submodule("gdpo.prompts")
rewards = submodule("gdpo.rewards")
settings = submodule("gdpo.settings")
trainer = submodule("gdpo.training.trainer")

CASES = 30
DRAWN = ("history.jsonl", "run.json")  # what a figure is made of
STEPS = 6  # enough for the findings, which look at five steps
DEEP = "[" * 20_000 + "]" * 20_000
# Texts of values that no record holds at most places, written into the file as they are.
ODD = [
    *("null", "true", "-1", "0", "1.5", "1e308", "-1e308", "1e99", "-1e99", "1e-300", "1e999"),
    *("NaN", "-Infinity"),
    *('""', '"x"', r'"\ud800"', "[]", "{}", "[1]", "[[1]]", '{"mean": 1}', '{"": {}}'),
    *("9" * 400, "9" * 5000, DEEP, '{"a":' * 5000 + "1" + "}" * 5000),
]
ODD_LINES = [*ODD, "", "{", "}{", '{"step": 1}', '{"step": 99}', '{"step": 3, "eval": {}}', "\0"]


@pytest.fixture(scope="module")
def policy(tiny_folder):
    return loading.load_policy(tiny_folder, device="cpu")


def train(policy, folder: Path) -> None:
    """The one training of this file: the first time it makes the run, later it resumes it."""
    length = rewards.Conciseness(unit="characters", shortest=0, longest=9)
    both = [rewards.Reward("polite", rewards.Politeness()), rewards.Reward("short", length)]
    rows = [prompts.Prompt((("user", f"the printer {n}"),), {}) for n in range(2)]
    chosen = settings.TrainSettings(
        steps=STEPS,
        prompts_per_step=1,
        group_size=2,
        max_new_tokens=4,
        lora_rank=1,
        eval_every=3,
        checkpoint_every=3,
    )
    trainer.train(policy, rows, objectives.combine_rewards(both), chosen, folder, heldout=rows)


@pytest.fixture(scope="module")
def real(policy, tmp_path_factory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("real") / "run"
    train(policy, folder)
    return folder


@pytest.fixture
def readers(policy, tmp_path, monkeypatch) -> Iterator[dict[str, Callable[[Path], object]]]:
    """Everything that reads a run's folder."""
    monkeypatch.setattr(figure, "DOTS_PER_INCH", 20)
    host.configure(host.Folders(tmp_path, tmp_path / "input", (tmp_path / "models",)))

    def follow(folder: Path) -> None:
        past = live.read_past(folder)
        run = live.LiveRun({}, past, lambda *_: None, lambda: {"page": 1})
        run.record({"step": STEPS + 1, "truncated": 0.5})
        json.dumps(to_json(live.describe_run(folder, past)), allow_nan=False)

    yield {
        "findings": lambda folder: diagnosis.diagnose(history.read_history(folder)),
        "chart": follow,
        "figure": lambda folder: PACK.NODE_CLASS_MAPPINGS["GDPOPlotConvergence"]().plot(
            saved_runs=folder.name
        ),
        "resume": lambda folder: train(policy, folder),
    }
    host.configure(None)


def mutate(random_: random.Random, folder: Path) -> str:
    """Change one file of a run a little; returns what was done."""
    checkpoint = f"checkpoints/step-{STEPS:06d}/state.json"
    files = ["history.jsonl"] * 6 + ["completions.jsonl"] * 2 + ["run.json", checkpoint]
    file = folder / random_.choice(files)
    data = file.read_bytes()
    how = random_.choice([_value, _value, _value, _lines, _bytes])
    file.write_bytes(how(random_, data))
    return f"{how.__name__} of {file.name}"


def _value(random_: random.Random, data: bytes) -> bytes:
    """One value of one record is another, has another name, or is gone."""
    lines = data.decode().splitlines()
    number = random_.randrange(len(lines)) if lines[0] != "{" else None
    record = json.loads(data if number is None else lines[number])
    holder, key = random_.choice(list(_places(record)))
    action = random_.choice(["replace", "replace", "replace", "drop", "rename"])
    if action == "replace":
        holder[key] = "\a"  # stands for the odd text below
    elif action == "drop" or isinstance(holder, list):
        del holder[key]
    else:
        holder[random_.choice(["", "step", "short", "mean", "x" * 500])] = holder.pop(key)
    text = json.dumps(record).replace(r'"\u0007"', random_.choice(ODD))
    return "\n".join(
        [text] if number is None else [*lines[:number], text, *lines[number + 1 :], ""]
    ).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder of a value in a JSON document, with the key or the place of the value."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


def _lines(random_: random.Random, data: bytes) -> bytes:
    """A line is odd, gone, there twice, or at the place of another."""
    lines = data.decode().splitlines()
    one, other = (random_.randrange(len(lines)) for _ in range(2))
    action = random_.choice(["insert", "drop", "repeat", "swap"])
    if action == "insert":
        lines.insert(one, random_.choice(ODD_LINES))
    elif action == "drop":
        del lines[one]
    elif action == "repeat":
        lines.insert(one, lines[other])
    else:
        lines[one], lines[other] = lines[other], lines[one]
    return "\n".join([*lines, ""]).encode()


def _bytes(random_: random.Random, data: bytes) -> bytes:
    """The file is cut off, or some of its bytes are others."""
    place = random_.randrange(len(data))
    action = random_.choice(["cut", "flip", "insert"])
    if action == "cut":
        return data[:place]
    if action == "flip":
        return data[:place] + bytes([data[place] ^ 1 << random_.randrange(8)]) + data[place + 1 :]
    return data[:place] + random_.randbytes(4) + data[place:]


def test_a_damaged_run_ends_in_a_result_or_in_the_packs_own_error(
    real, readers, tmp_path, pytestconfig
):
    random_, cases = random.Random(0), pytestconfig.getoption("--cases") or CASES
    ends = {"result": 0, "error": 0}
    messages, others = [], []
    for case in range(cases):
        folder = tmp_path / "gdpo" / f"run-{case}"
        shutil.copytree(real, folder)
        done = mutate(random_, folder)
        for name, read in readers.items():
            if name == "figure" and not done.endswith(DRAWN):
                continue  # it would be that of the undamaged run
            try:
                read(folder)
                ends["result"] += 1
            except errors.GDPOError as error:
                ends["error"] += 1
                messages.append(str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs on the list
                others.append(f"case {case}, {done}, {name}: {type(error).__name__}: {error!s:.90}")
        shutil.rmtree(folder)
    assert not others, "\n".join(others)
    assert not any("\n" in message for message in messages)
    assert min(ends.values()) > cases // 4, "the mutations are too mild or too wild to say anything"
