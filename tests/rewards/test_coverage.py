"""Rewards that could score no prompt are refused, and those that can score some are told, before any step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from gdpo.errors import RewardError
from gdpo.prompts import make_prompt
from gdpo.rewards import SCORERS, AnswerMatch, Completion, Conciseness, Keywords, Reward
from gdpo.rewards.coverage import check_coverage

GSM8K = [
    make_prompt(f"What is {i} + 1?", fields={"answer": f"{i} + 1 = {i + 1}\n#### {i + 1}"}, line=i)
    for i in range(1, 6)
]


def test_a_column_that_no_row_has_is_refused_with_those_that_are_there():
    with pytest.raises(RewardError) as caught:
        check_coverage([Reward("right", AnswerMatch())], GSM8K)
    assert str(caught.value) == (
        "Reward 'right' (AnswerMatch) can score none of the 5 prompts: the column 'reference' is "
        "absent or empty. The columns are 'answer'; name one of them in `field`."
    )
    assert (
        check_coverage([Reward("right", AnswerMatch(field="answer", mode="numeric"))], GSM8K) == []
    )


def test_gates_and_keywords_are_looked_at_too():
    gated = Reward("short", Conciseness(), gate=Reward("right", AnswerMatch()))
    for reward in (gated, Reward("words", Keywords(field="terms"))):
        with pytest.raises(RewardError, match=r"can score none of the 5 prompts.*'answer'"):
            check_coverage([reward], GSM8K)


def test_prompts_without_columns_and_columns_of_nulls_are_refused():
    for fields in ({}, {"reference": None}):
        with pytest.raises(RewardError, match="can score none of the 1 prompts"):
            check_coverage([Reward("right", AnswerMatch())], [make_prompt("x", fields=fields)])


def test_the_share_that_can_be_scored_is_told():
    prompts = [*GSM8K[:3], make_prompt("Hello"), make_prompt("Bye", fields={"answer": None})]
    (line,) = check_coverage([Reward("right", AnswerMatch(field="answer"))], prompts)
    assert "can score 3 of 5 prompts (60 %)" in line
    (line,) = check_coverage([Reward("right", AnswerMatch(field="answer"))], GSM8K, prompts[3:])
    assert "can score 0 of 2 held-out prompts (0 %)" in line


def test_rows_that_cannot_be_used_are_named_together():
    bad = [
        make_prompt(text, fields={"reference": text}, line=line)
        for line, text in enumerate(["1, 2, 3", "72", "2024-05-01", "x", "12:30"], 1)
    ]
    with pytest.raises(
        RewardError, match=r"cannot use 4 rows: line 1: .*; line 3: .*; line 4: .*; \.\.\."
    ):
        check_coverage([Reward("right", AnswerMatch(mode="numeric"))], bad)
    assert check_coverage([Reward("right", AnswerMatch(mode="contains"))], bad) == []
    with pytest.raises(RewardError, match=r"cannot use a row: line 1: .* is empty"):
        check_coverage(
            [Reward("right", AnswerMatch())], [make_prompt("x", fields={"reference": ""}, line=1)]
        )


@pytest.mark.parametrize("kind", SCORERS)
def test_what_a_scorer_says_of_a_prompt_is_what_it_does(kind):
    settings = {"Keywords": {"field": "reference"}}.get(kind, {})
    scorer = SCORERS[kind](**settings)
    for fields in (
        {},
        {"reference": None},
        {"reference": "72"},
        {"other": "72"},
        {"reference": [7]},
    ):
        prompt = make_prompt("question", fields=fields)
        scored = scorer.score(prompt, Completion("some text 72", 3)) is not None
        assert getattr(scorer, "check", lambda _: True)(prompt) == scored


@dataclass(frozen=True)
class Counted:
    """A scorer without a check, which must not be called."""

    kind: ClassVar[str] = "Counted"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def score(self, prompt, completion):
        raise AssertionError("scored")


def test_a_scorer_without_a_check_is_not_asked():
    rewards = [Reward("mine", Counted()), Reward("function", lambda prompt, completion: None)]
    assert check_coverage(rewards, GSM8K) == []


def test_it_can_be_stopped():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_coverage([Reward("right", AnswerMatch())], GSM8K, poll=stop)
