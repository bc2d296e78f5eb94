"""Whatever kills or damages a run, it ends in the same result or in an error that says so.

`--kills N` makes N random kills instead of the few that fit into every run of the tests.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import make_model
from crash_runs import Server, check_equal
from crash_server import BROKEN, OK, REFUSED

STEPS, MORE = 4, 6
CHANGES = 65  # of files, in a training of so many steps; the kills are spread over them
USUAL_KILLS = 6  # the option's default

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    server = Server(make_model(tmp_path_factory.mktemp("model"), num_hidden_layers=1))
    yield server
    server.close()


@pytest.fixture(scope="module")
def references(server, tmp_path_factory) -> Callable[..., Path]:
    """Undisturbed runs by the order."""
    made: dict[str, Path] = {}

    def make(**order: Any) -> Path:
        key = json.dumps(order, sort_keys=True)
        if key not in made:
            folder = tmp_path_factory.mktemp("reference") / "run"
            assert server.train(folder, **order) == (OK, "")
            made[key] = folder
        return made[key]

    return make


def kills(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--kills")


def test_killed_trainings_end_equal(server, references, tmp_path, request):
    """Each is killed up to three times, before a change of a file or, in the long run, at a moment; then it ends.

    Where a moment falls depends on the machine, so a usual run of the tests kills at changes of files alone.
    """
    random_, died = random.Random(0), 0
    moments = kills(request) > USUAL_KILLS
    for case in range(kills(request)):
        optimizer = ("adamw", "natural", "adamw", "adamw_8bit")[case % 4]
        folder = tmp_path / f"run-{case}"
        for _ in range(random_.randint(1, 3)):
            when = {"operation": random_.randint(1, CHANGES)}
            if case % 2 and moments:
                when = {"seconds": random_.uniform(0.05, 1.5)}
            code, message = server.train(folder, optimizer=optimizer, **when)
            assert code in {OK, -9}, message
            died += code == -9
        assert server.train(folder, optimizer=optimizer) == (OK, "")
        check_equal(folder, references(optimizer=optimizer))
        shutil.rmtree(folder)
    assert died >= kills(request) // 2, "the kills come too late to say anything"
    sys.stdout.write(f"{kills(request)} trainings, {died} kills, all equal\n")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("variant", ["names kept", "names lost"])
def test_power_failures_end_equal(server, references, tmp_path, request, variant):
    """Between two steps that the disk has, nothing that was not synchronised survives."""
    random_, cut = random.Random(1), 0
    for case in range(max(3, kills(request) // 2)):
        folder = tmp_path / f"run-{case}"
        order = {"operation": random_.randint(1, 42), "power": variant}
        code, message = server.train(folder, **order)
        assert code in {OK, -9}, message
        if code != OK:
            cut += 1
            left = folder.with_name(f"{folder.name}.left")
            shutil.rmtree(folder)
            if left.exists():
                left.rename(folder)
        assert server.train(folder) == (OK, "")
        check_equal(folder, references())
    assert cut >= 2


def _flip(data: bytes) -> bytes:
    place = len(data) * 2 // 3
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


def _newer(data: bytes) -> bytes:
    """The same content as a version of tomorrow signs it."""
    from gdpo.runs.seal import _signed

    content = {**json.loads(data), "format": 99}
    signed = content.pop("sha256", None)
    return (_signed(content) if signed else json.dumps(content)).encode()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "flipped": _flip,
    "garbage": lambda data: random.Random(2).randbytes(len(data)),
    "newer": _newer,
}


@pytest.fixture(scope="module")
def unfinished(server, tmp_path_factory) -> Path:
    """A run that is to have more steps."""
    folder = tmp_path_factory.mktemp("unfinished") / "run"
    assert server.train(folder, steps=STEPS) == (OK, "")
    return folder


def test_a_damaged_file_never_gives_another_result(server, references, unfinished, tmp_path):
    """Every file of the run, damaged in every way: the training ends equal, or says what is wrong."""
    ends = {OK: 0, REFUSED: 0}
    files = [path.relative_to(unfinished) for path in sorted(unfinished.rglob("*"))]
    for file in [file for file in files if (unfinished / file).is_file()]:
        for name in [*DAMAGES, "missing"]:
            if name == "newer" and file.name not in {"run.json", "state.json"}:
                continue
            if "step-000002" in file.parts and name not in {"flipped", "missing"}:
                continue  # the older checkpoint, which is read when the newest is damaged
            folder = tmp_path / "run"
            shutil.copytree(unfinished, folder)
            if name == "missing":
                (folder / file).unlink()
            elif data := (folder / file).read_bytes():
                (folder / file).write_bytes(DAMAGES[name](data))
            code, message = server.train(folder, steps=MORE)
            assert code != BROKEN, (file, name, message)
            ends[code] += 1
            if code == OK:
                check_equal(folder, references(steps=MORE))
            else:
                assert "\n" not in message
                assert not (name == "newer" and "newer version" not in message), message
            shutil.rmtree(folder)
    assert min(ends.values()) > 5, ends
    sys.stdout.write(f"damages: {ends[OK]} equal, {ends[REFUSED]} refused\n")


def test_an_edited_step_in_a_checkpoint_is_noticed(server, references, unfinished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unfinished, folder)
    state = folder / "checkpoints" / "step-000004" / "state.json"
    text = state.read_text()
    state.write_text(text.replace('"step": 4', '"step": 2', 1))
    assert state.read_text() != text
    state.parent.rename(folder / "checkpoints" / "step-000003")
    assert server.train(folder, steps=MORE) == (OK, "")
    check_equal(folder, references(steps=MORE))


def test_with_both_checkpoints_damaged_the_training_begins_anew(
    server, references, unfinished, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(unfinished, folder)
    for weights in folder.glob("checkpoints/*/adapter_model.safetensors"):
        weights.write_bytes(_flip(weights.read_bytes()))
    assert server.train(folder, steps=MORE) == (OK, "")
    check_equal(folder, references(steps=MORE))


def test_a_checkpoint_of_before_the_sums_still_goes_on(server, references, unfinished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unfinished, folder)
    for file in folder.glob("checkpoints/*/state.json"):
        content = json.loads(file.read_text())
        old = {key: content[key] for key in ("step", "optimizer", "director")}
        file.write_text(json.dumps(old))
    run = json.loads((folder / "run.json").read_text())
    del run["format"], run["identity"]["files"], run["identity"]["rows"]
    (folder / "run.json").write_text(json.dumps(run))
    assert server.train(folder, steps=MORE) == (OK, "")
    (folder / "run.json").write_bytes((references(steps=MORE) / "run.json").read_bytes())
    check_equal(folder, references(steps=MORE))
