"""Many prompts are measured with few questions to the worker, each by itself where that is needed, and nothing is kept."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path

import pytest

from gdpo.policies import stranger
from gdpo.policies.chat import encode_prompts
from gdpo.policies.loading import load_policy
from gdpo.policies.measuring import count_tokens
from gdpo.prompts import make_prompt
from gdpo.starter import MODEL_DIR

REFUSING = "{% if 'no' in messages[-1].content %}{{ raise_exception('I say no') }}{% endif %}" + (
    "{% for m in messages %}{{ m.content }}{% endfor %}"
)


@pytest.fixture(scope="module")
def own():
    return load_policy(MODEL_DIR, device="cpu").base.tokenizer


def copied(tmp_path, **entries):
    """The starter model as a stranger's, and its tokenizer."""
    folder = Path(shutil.copytree(MODEL_DIR, tmp_path / "model"))
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))
    return load_policy(folder, device="cpu").base.tokenizer


@pytest.fixture
def asked(monkeypatch):
    """The commands that the worker was asked, with the number of conversations."""
    commands: list[tuple[str, int]] = []
    ask = stranger._worker.ask

    def counting(request, **options):
        commands.append((request["command"], len(request.get("conversations", ()))))
        return ask(request, **options)

    monkeypatch.setattr(stranger._worker, "ask", counting)
    return commands


ODD = [
    *["", " ", "a", "😀" * 50, "<|im_end|>" * 3, "\n\n", "ä é ß", "日本語 " * 40, "x" * 5000],
    *[f"question {i}: what is {i} + {i * i}?" for i in range(700)],
]


def prompts(texts):
    return [make_prompt(text, system="Be brief." * (i % 3 == 0)) for i, text in enumerate(texts)]


@pytest.mark.parametrize("whose", ["own", "stranger's"])
def test_the_numbers_are_those_of_the_tokens_that_are_sampled_from(whose, own, tmp_path):
    tokenizer = own if whose == "own" else copied(tmp_path)
    rows = prompts(ODD)
    assert list(count_tokens(tokenizer, rows)) == [
        len(made.ids) for made in encode_prompts(tokenizer, rows)
    ]
    assert list(count_tokens(tokenizer, [])) == []


def test_twenty_thousand_prompts_are_twenty_questions(tmp_path, asked):
    tokenizer = copied(tmp_path)
    asked.clear()
    rows = [make_prompt(f"row {i}") for i in range(20_000)]
    assert len(list(count_tokens(tokenizer, rows))) == 20_000
    assert asked == [("measure", 1000)] * 20


@pytest.mark.parametrize("whose", ["own", "stranger's"])
def test_each_refused_prompt_is_told_and_the_others_are_measured(whose, own, tmp_path, monkeypatch):
    if whose == "own":
        tokenizer = own
        monkeypatch.setattr(own, "chat_template", REFUSING)
    else:
        tokenizer = copied(tmp_path, chat_template=REFUSING)
    bad = {3, 64, 700, 1500}
    rows = [make_prompt("no way" if i in bad else f"yes {i}") for i in range(1501)]
    found = list(count_tokens(tokenizer, rows))
    assert {i for i, one in enumerate(found) if isinstance(one, str)} == bad
    assert all("I say no" in found[i] for i in bad)
    assert all(isinstance(found[i], int) and found[i] > 0 for i in range(1501) if i not in bad)


def test_the_prompt_that_ends_the_worker_is_the_one_that_is_named(tmp_path):
    """Native code panics, which may hold locks for ever; those before it are measured all the same."""
    slow = {"type": "Replace", "pattern": {"Regex": "(a+)+[^a-z]"}, "content": "b"}
    folder = Path(shutil.copytree(MODEL_DIR, tmp_path / "model"))
    file = folder / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "normalizer": slow}))
    tokenizer = load_policy(folder, device="cpu").base.tokenizer
    rows = [make_prompt("a" * 60 if i == 130 else f"row {i}") for i in range(150)]
    found: list[int | str] = []
    with pytest.raises(stranger.UnusableError) as caught:
        found.extend(count_tokens(tokenizer, rows))
    assert (caught.value.index, len(found)) == (130, 130), str(caught.value)
    assert str(caught.value)


def test_a_template_that_makes_far_too_much_of_one_prompt_refuses_that_one(tmp_path):
    much = "{% if 'much' in messages[-1].content %}{{ 'a ' * 500000 }}{% endif %}hello"
    found = list(
        count_tokens(
            copied(tmp_path, chat_template=much),
            [make_prompt("much" if i == 7 else "x") for i in range(20)],
        )
    )
    assert "1000005 characters of 4" in found[7]
    assert len(set(found[:7] + found[8:])) == 1


def test_a_worker_that_has_forgotten_the_tokenizer_reads_it_again(tmp_path, asked):
    tokenizer = copied(tmp_path)
    before = list(count_tokens(tokenizer, prompts(ODD[:20])))
    stranger._worker.stop()
    asked.clear()
    assert list(count_tokens(tokenizer, prompts(ODD[:20]))) == before
    assert [command for command, _ in asked] == ["measure", "look", "measure"]


@pytest.mark.parametrize("whose", ["own", "stranger's"])
def test_measuring_can_be_interrupted(whose, own, tmp_path):
    tokenizer = own if whose == "own" else copied(tmp_path)
    calls = []

    def stop() -> None:
        calls.append(1)
        raise KeyboardInterrupt

    rows = [make_prompt(f"row {i} " * 40) for i in range(3000)]
    with pytest.raises(KeyboardInterrupt):
        list(count_tokens(tokenizer, rows, poll=stop))
    assert calls == [1]


def test_no_text_and_no_tokens_are_kept(own):
    """Twice as many prompts take no more memory at any time than so many, although their tokens alone are megabytes."""
    rows = [make_prompt(f"{i} " * 400) for i in range(1200)]
    count_all(own, rows[:300])  # what the library makes once
    peaks = []
    for part in (rows[:600], rows):
        tracemalloc.start()
        try:
            tokens = count_all(own, part)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    pointer = 8  # bytes of a list for each token
    assert tokens * pointer > 5 * 2**20
    assert peaks[1] < 1.25 * peaks[0]


def count_all(tokenizer, rows) -> int:
    return sum(one for one in count_tokens(tokenizer, rows) if isinstance(one, int))
