"""The record of a run: written once, read by everybody, and refused in one line where it is not what a run writes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import get_type_hints

import pytest
from small_training import PROMPTS, SETTINGS, objective

from gdpo.errors import TrainingError
from gdpo.runs import history
from gdpo.runs.history import newest_completion, read_history
from gdpo.runs.record import StepRecord
from gdpo.training.trainer import train

_opened: list[tuple[str, str]] = []


@pytest.fixture(scope="module")
def opened():
    """Name and mode of every file that is opened; a hook of Python stays, so there is one for all tests."""

    def watch(event, arguments):
        if event == "open" and isinstance(arguments[0], str):
            _opened.append((arguments[0].replace("\\", "/").split("/")[-1], str(arguments[1])))

    sys.addaudithook(watch)
    return _opened


def step(number, **more):
    figures = {"mean": 0.5, "std": 0.1, "dead_groups": 0.0}
    return {"step": number, "rewards": {"a": figures, "b": figures}, **more}


def evaluation(number, names=("a", "b")):
    found = {
        "rewards": {name: {"mean": 0.5, "standard_error": None} for name in names},
        "length": {"mean": 9, "std": 1.0},
        "truncated": 0.0,
    }
    return {"step": number, "eval": found, "converged": False}


@pytest.fixture
def write(tmp_path):
    """Writes a history of these lines, each a record or a text, and returns the run's folder."""

    def make(*lines, end="\n"):
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "history.jsonl").write_bytes(("\n".join(texts) + end).encode("utf-8"))
        return tmp_path

    return make


def refused(folder) -> str:
    with pytest.raises(TrainingError) as caught:
        read_history(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- training and its record ---------------------------------------------------------------------------


def test_a_longer_training_does_not_read_its_history_more_often(tiny_policy, tmp_path, opened):
    reads = []
    for steps in (2, 6):
        settings = replace(SETTINGS, steps=steps, eval_every=1)
        opened.clear()
        train(tiny_policy, PROMPTS, objective(), settings, tmp_path / str(steps), heldout=PROMPTS)
        modes = [mode for name, mode in opened if name == "history.jsonl"]
        written = (tmp_path / str(steps) / "history.jsonl").read_text(encoding="utf-8")
        assert written.count("\n") == 2 * steps + 1  # steps and evaluations
        assert sum("a" in mode for mode in modes) >= 2 * steps + 1  # the hook sees every append
        # To bring a file to the disk it is opened too, for writing.
        reads.append(sum("r" in mode and "+" not in mode for mode in modes))
    assert reads[0] == reads[1]


# What only the steps of one kind of optimiser have.
OWN_KEYS = {
    "natural": {"step_kl", "step_kl_measured", "step_shortened", "signals"},
    "adamw": {"learning_rate"},
}


@pytest.mark.parametrize("optimizer", OWN_KEYS)
def test_a_training_records_every_key_that_is_documented_and_no_other(
    optimizer, tiny_policy, tmp_path
):
    settings = replace(SETTINGS, optimizer=optimizer)
    train(tiny_policy, PROMPTS, objective(), settings, tmp_path / "run", heldout=PROMPTS[:2])
    text = (tmp_path / "run" / "history.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    (others,) = (keys for name, keys in OWN_KEYS.items() if name != optimizer)
    assert {key for line in lines for key in line} == get_type_hints(StepRecord).keys() - others
    records = read_history(tmp_path / "run")
    assert [record["step"] for record in records] == list(range(SETTINGS.steps + 1))
    merged = {}
    for line in lines:
        merged.setdefault(line["step"], {}).update(line)
    assert list(records) == list(merged.values())


def test_a_resumed_run_keeps_its_lines_as_they_were(tiny_policy, tmp_path):
    run = tmp_path / "run"
    train(tiny_policy, PROMPTS, objective(), SETTINGS, run, heldout=PROMPTS[:2])
    files = [run / "history.jsonl", run / "completions.jsonl"]
    before = [file.read_bytes() for file in files]
    later = [json.dumps(step(7)), json.dumps({**newest_completion(run), "step": 7})]
    for file, line in zip(files, later, strict=True):
        with file.open("a") as stream:
            stream.write(line + "\n" + line[:20])
    train(tiny_policy, PROMPTS, objective(), SETTINGS, run, heldout=PROMPTS[:2])
    assert [file.read_bytes() for file in files] == before


def test_a_history_of_other_rewards_does_not_go_on(tiny_policy, tmp_path):
    run = tmp_path / "run"
    train(tiny_policy, PROMPTS, objective(), replace(SETTINGS, steps=1), run, heldout=PROMPTS[:2])
    file = run / "history.jsonl"
    file.write_text(file.read_text().replace('"vowels"', '"others"'))
    with pytest.raises(
        TrainingError, match=r"history\.jsonl' is not what was written up to step 1"
    ):
        train(tiny_policy, PROMPTS, objective(), SETTINGS, run, heldout=PROMPTS[:2])
    with pytest.raises(TrainingError, match=r"Line 1 .*'rewards'|Line 1 .*'eval.rewards'"):
        read_history(run, names=[reward.name for reward in objective().rewards])


# --- reading ----------------------------------------------------------------------------------------------


def test_an_evaluation_joins_its_step_and_may_come_before_the_first(write):
    records = read_history(write(evaluation(0), step(1), step(2), evaluation(2), step(3)))
    assert [sorted(set(record) & {"rewards", "eval"}) for record in records] == [
        ["eval"],
        ["rewards"],
        ["eval", "rewards"],
        ["rewards"],
    ]


def test_old_records_have_fewer_keys_and_keys_that_are_gone(write):
    wedges = {"wedges": [[0.0, 1.0], [1.0, 0.0]], "cosines": [[1.0, 0.0], [0.0, 1.0]]}
    first, second = read_history(write({"step": 1}, step(2, **wedges)))
    assert first == {"step": 1}
    assert second == step(2, cosines=wedges["cosines"])


@pytest.mark.parametrize("cut", [1, 3, 20])
def test_a_line_that_was_torn_by_a_kill_is_left_out(write, cut):
    file = write(step(1), json.dumps({"step": 2, "note": "実験"}, ensure_ascii=False), end="")
    whole = (file / "history.jsonl").read_bytes()
    (file / "history.jsonl").write_bytes(whole[:-cut])  # 3 is in the middle of a letter
    assert [record["step"] for record in read_history(file)] == [1]


BAD = {
    "no object": ("null", "it should be an object. Found None"),
    "a list": ("[]", "it should be an object. Found []"),
    "no JSON": ('{"step": 2', "JSONDecodeError"),
    "no step": ('{"rewards": {}}', "an object with the key 'step'"),
    "step is a text": (step("2"), "value of 'step' should be a whole number, 0 or more. Found '2'"),
    "step is a fraction": (step(1.5), "'step' should be a whole number"),
    "step is true": (step(True), "'step' should be a whole number"),
    "step is negative": (step(-1), "'step' should be a whole number"),
    "an earlier step": (step(0), "'step' should be above 1, the step of the line before. Found 0"),
    "a step twice": (step(1), "'step' should be above 1"),
    "a text for a number": (step(2, kl="0"), "value of 'kl' should be a number"),
    "true for a number": (step(2, kl=True), "'kl' should be a number"),
    "a negative deviation": (
        step(2, rewards={key: {"mean": 0, "std": -0.1, "dead_groups": 0} for key in "ab"}),
        "'rewards.a.std' should be null or a number, 0 or more. Found -0.1",
    ),
    "infinity": ('{"step": 2, "kl": Infinity}', "Infinity is not a JSON number"),
    "NaN": ('{"step": 2, "kl": NaN}', "NaN is not a JSON number"),
    "too large": ('{"step": 2, "kl": 1e999}', "'kl' should be a number, 1e+100 at most. Found inf"),
    "too large a whole number": (step(2, kl=10**400), "'kl' should be a number, 1e+100 at most"),
    "thousands of digits": ('{"step": ' + "9" * 9000 + "}", "ValueError"),
    "a number for figures": (
        step(2, rewards={"a": 1, "b": 1}),
        "value of 'rewards.a' should be an",
    ),
    "a key of the figures is missing": (step(2, length={"mean": 1.0}), "the key 'std'"),
    "other rewards": (step(2, weights={"a": 1.0}), "'weights' should be an object with the run's"),
    "rewards in another order": (step(2, weights={"b": 1.0, "a": 0.0}), "'weights' should be"),
    "a reward too many in an evaluation": (evaluation(2, ("a", "b", "c")), "'eval.rewards' should"),
    "cosines of another size": (
        step(2, cosines=[[1.0]]),
        "2 rows of 2 numbers. Found 'rows of [1]'",
    ),
    "a thousand rewards": (
        step(2, rewards=dict.fromkeys(map(str, range(999)), step(1)["rewards"]["a"])),
        "'rewards' should be an object with the run's",
    ),
    "ragged cosines": (step(2, cosines=[[1.0, 0.0], [1.0]]), "Found 'rows of [2, 1]'"),
    "deep nesting": ('{"step": 2, "kl": ' + "[" * 50_000 + "]" * 50_000 + "}", "RecursionError"),
    "a name with a line break": (step(2, rewards={"a\nb": 1}), r"'rewards.a\nb' should be"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_line_that_no_run_writes_is_named_with_what_is_wrong(write, case):
    line, words = BAD[case]
    message = refused(write(step(1), line, step(3)))
    assert "Line 2 of" in message
    assert "history.jsonl" in message
    assert words in message
    assert "delete that line" in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"step": 1, "weights": dict.fromkeys(map(str, range(17)), 0.1)}, "16 rewards at most"),
        ({"step": 1, "cosines": [[0.0] * 17] * 17}, "16 rewards at most"),
        ({"step": 1, "cosines": [[], []]}, "2 rows of 2 numbers"),
    ],
)
def test_no_record_is_larger_than_the_largest_objective(write, line, words):
    assert words in refused(write(line))


def test_bytes_that_are_no_text_are_named_by_their_line(write):
    folder = write(step(1), step(2))
    file = folder / "history.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"step": 2', b'"\xff": 2'))
    assert "Line 2 of" in refused(folder)


@pytest.mark.parametrize("line", ["null", '{"step": 1, "kl": "x"}'])
def test_reading_stops_at_the_first_bad_line_of_an_endless_file(write, line):
    assert "Line 1 of" in refused(write(*[line] * 100_000))


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("MAX_HISTORY_BYTES", 60, "more than 60 bytes"),
        ("MAX_HISTORY_LINES", 5, "more than 5 lines"),
    ],
)
def test_a_history_beyond_the_limits_is_refused(write, monkeypatch, limit, value, words):
    folder = write(*({"step": number} for number in range(9)))
    assert len(read_history(folder)) == 9
    monkeypatch.setattr(history, limit, value)
    assert words in refused(folder)


def test_a_line_beyond_the_limit_is_refused(write, monkeypatch):
    folder = write({"step": 1}, step(2))
    monkeypatch.setattr(history, "MAX_LINE_BYTES", 60)
    assert "longer than 60 bytes" in refused(folder)


def test_a_folder_without_a_history_is_refused(tmp_path):
    assert "holds no run" in refused(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"step": 1, "prompt": 1, "completion": "", "rewards": {}}',
        '{"step": 1, "prompt": "", "completion": "", "rewards": {"a": "1"}}',
        '{"step": 1, "completion": "", "rewards": {}}',
    ],
)
def test_completions_that_no_run_writes_are_refused_too(tmp_path, line):
    good = {"step": 1, "prompt": "p", "completion": "c", "rewards": {"a": None}}
    file = tmp_path / "completions.jsonl"
    file.write_text(f"{json.dumps(good)}\n{line}\n")
    with pytest.raises(TrainingError, match=r"Line 2 of .*completions\.jsonl"):
        newest_completion(tmp_path)


def test_the_newest_completion_is_the_first_of_the_last_step(tmp_path):
    assert newest_completion(tmp_path) is None
    rows = [(1, "a"), (1, "b"), (2, "c"), (2, "d")]
    lines = [{"step": s, "prompt": "p", "completion": c, "rewards": {}} for s, c in rows]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "completions.jsonl").write_text(text)
    assert newest_completion(tmp_path) == lines[2]
