from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from gdpo.errors import RewardError, TrainingError
from gdpo.prompts import make_prompt
from gdpo.rewards import (
    AnswerMatch,
    Completion,
    Conciseness,
    JSONSchema,
    Politeness,
    Reward,
    check_options,
    describe,
    identify_reward,
    option,
    score_rewards,
)


def test_options_can_serve_other_dataclasses_with_their_own_error():
    @dataclass(frozen=True)
    class Settings:
        rate: float = option(0.1, "Learning rate.", minimum=0.0, maximum=1.0)
        note: str = ""

    check_options(Settings(rate=1))
    with pytest.raises(TrainingError, match=r"Settings: `rate` must be at most 1\.0\. Found 2"):
        check_options(Settings(rate=2), TrainingError)
    (only,) = describe(Settings)
    assert (only.name, only.type, only.default, only.maximum) == ("rate", float, 0.1, 1.0)


@dataclass(frozen=True)
class Table:
    """Gives the value listed under the completion's text, or raises it if it is an exception."""

    values: tuple[tuple[str, object], ...]
    name: str = ""
    kind: ClassVar[str] = "Table"
    summary: ClassVar[str] = "Looks up."
    value_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    calls: ClassVar[list[str]] = []

    def score(self, prompt, completion):
        Table.calls.append(self.name + completion.text)
        value = dict(self.values)[completion.text]
        if isinstance(value, BaseException):
            raise value
        return value


def table(name: str = "", **values) -> Table:
    return Table(tuple(values.items()), name)


def run(rewards, texts: str, poll=lambda: None) -> torch.Tensor:
    prompts = [make_prompt(f"question {text}", line=7) for text in texts]
    return score_rewards(rewards, prompts, [Completion(text, 1) for text in texts], poll)


def test_scores_come_as_rewards_by_completions_with_nan_for_unscored():
    first = Reward("first", table(a=0.5, b=None, c=-1))
    second = Reward("second", table(a=True, b=0, c=1.0))
    scores = run([first, second], "abc")
    assert scores.dtype == torch.float64
    assert scores.shape == (2, 3)
    expected = torch.tensor([[0.5, math.nan, -1], [1, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(scores, expected, equal_nan=True, rtol=0, atol=0)
    assert run([], "abc").shape == (0, 3)
    assert run([first], "").shape == (1, 0)


def test_each_prompt_reaches_its_own_completion():
    prompts = [make_prompt("q", fields={"reference": n}) for n in (1, 2, 3)]
    completions = [Completion(text, 1) for text in ("1", "3", "3")]
    scores = score_rewards([Reward("a", AnswerMatch())], prompts, completions, lambda: None)
    assert scores.tolist() == [[1.0, 0.0, 1.0]]
    with pytest.raises(RewardError, match="Found 3 prompts and 2 completions"):
        score_rewards([], prompts, completions[:2], lambda: None)


def test_a_gate_below_its_threshold_or_unscored_gives_the_bottom_of_the_range():
    gate = Reward("gate", table(a=0.2, b=0.19, c=None, d=1.0))
    gated = Reward("gated", table(a=0.5, b=0.5, c=0.5, d=None), gate=gate, gate_threshold=0.2)
    scores = run([gated], "abcd")[0]
    assert scores[:3].tolist() == [0.5, -1.0, -1.0]
    assert math.isnan(scores[3])  # what cannot be scored stays unscored behind an open gate ...
    shut = Reward("shut", table(d=None), gate=Reward("g", table(d=0.0)))
    assert run([shut], "d").isnan().all()  # ... and behind a shut one


def test_gates_behind_gates_all_count():
    first = Reward("first", table(a=1.0, b=0.0, c=1.0))
    second = Reward("second", table(a=1.0, b=1.0, c=0.0), gate=first)
    third = Reward("third", table(a=0.9, b=0.9, c=0.9), gate=second)
    assert run([third], "abc").tolist() == [[0.9, -1.0, -1.0]]


def test_a_scorer_that_is_reward_and_gate_runs_once_per_completion():
    Table.calls.clear()
    gate = Reward("gate", table("g", a=1.0, b=0.0))
    again = Reward("gate", table("g", a=1.0, b=0.0))  # equal, as after loading a workflow
    rewards = [Reward(f"r{n}", table(f"s{n}", a=0.1, b=0.1), gate=again) for n in range(2)]
    scores = run([*rewards, gate], "ab")
    assert sorted(Table.calls) == ["ga", "gb", "s0a", "s0b", "s1a", "s1b"]
    assert scores.tolist() == [[0.1, -1.0], [0.1, -1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (ValueError("no\n  luck"), "no luck"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (RewardError("empty reference"), "empty reference"),
        (RecursionError("too deep"), "too deep"),
        (math.nan, "a score must be a number from -1 to 1, or None. Found nan"),
        (math.inf, "Found inf"),
        (1.0001, "Found 1.0001"),
        (-2, "Found -2"),
        ("0.5", "Found '0.5'"),
        (1j, "Found 1j"),
        (torch.tensor(0.5), "Found tensor(0.5000)"),
    ],
    ids=repr,
)
def test_a_failing_reward_stops_with_its_name_prompt_and_completion(value, reason):
    reward = Reward("mine", table(a=0.5, b=value))
    with pytest.raises(RewardError) as caught:
        run([reward], "ab")
    message = str(caught.value)
    assert message.startswith(
        "Reward 'mine' (Table) failed on the prompt 'question b' (line 7) and the completion 'b': "
    )
    assert reason in message
    assert "\n" not in message
    if isinstance(value, Exception):
        assert caught.value.__cause__ is value


def test_a_schema_that_refers_to_itself_forever_is_an_error_not_a_score():
    rewards = [Reward("shape", JSONSchema('{"$ref": "#"}'))]
    with pytest.raises(RewardError, match="'shape'"):
        score_rewards(rewards, [make_prompt("q")], [Completion("{}", 1)], lambda: None)


def test_long_prompts_and_completions_are_shortened_in_messages():
    prompt, completion = make_prompt("p" * 10_000), Completion("[" * 10_000 + "\n", 1)
    with pytest.raises(RewardError) as caught:
        score_rewards([Reward("t", table())], [prompt], [completion], lambda: None)
    assert len(str(caught.value)) < 300 + len("[" * 10_000)
    reward = Reward("a", AnswerMatch())
    prompt = make_prompt("p" * 10_000, fields={"reference": ""})
    with pytest.raises(RewardError, match="is empty") as caught:
        score_rewards([reward], [prompt], [completion], lambda: None)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


class Interrupted(Exception):
    """Like a host's interrupt: a plain Exception."""


def test_polls_before_every_scoring_and_lets_interrupts_pass():
    polled = []

    def poll():
        polled.append(len(Table.calls))
        if len(polled) == 3:
            raise Interrupted

    Table.calls.clear()
    with pytest.raises(Interrupted):
        run([Reward("a", table(a=0.0, b=0.0, c=0.0))], "abc", poll)
    assert polled == [0, 1, 2]
    assert Table.calls == ["a", "b"]


def test_keyboard_interrupts_pass_through_a_scorer():
    with pytest.raises(KeyboardInterrupt):
        run([Reward("a", table(a=KeyboardInterrupt()))], "a")


def test_the_target_defaults_to_the_top_of_the_range():
    assert Reward("r", Politeness()).target == 1.0
    assert Reward("r", Politeness(), target=0.8).target == 0.8


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"name": ""}, "`name` must be one line"),
        ({"name": " r"}, "`name` must be one line"),
        ({"name": "a\nb"}, "`name` must be one line"),
        ({"name": "a\x00b"}, "`name` must be one line"),
        ({"name": "x" * 65}, "`name` must be one line"),
        ({"name": 5}, "`name` must be one line"),
        ({"scorer": None}, "`scorer` must be a frozen dataclass"),
        ({"scorer": Politeness}, "`scorer` must be"),
        ({"scorer": "Politeness"}, "`scorer` must be"),
        ({"target": 0.0}, "`target` must be above 0 and at most 1. Found 0.0"),
        ({"target": 1.01}, "`target` must be above 0 and at most 1"),
        ({"target": math.nan}, "`target`"),
        ({"target": "1"}, "`target`"),
        ({"target": True}, "`target`"),
        ({"target": 10**400}, "`target` must be above 0 and at most 1"),
        ({"preference": 10**400}, "`preference` must be a finite number of 0 or more"),
        ({"preference": -0.1}, "`preference` must be a finite number of 0 or more. Found -0.1"),
        ({"preference": math.inf}, "`preference`"),
        ({"preference": math.nan}, "`preference`"),
        ({"preference": None}, "`preference`"),
        ({"gate": Politeness()}, "`gate` must be another reward"),
        ({"gate_threshold": math.nan}, "`gate_threshold`"),
        (
            {"gate": Reward("g", Politeness()), "gate_threshold": 0.0},
            "`gate_threshold` must be above 0",
        ),
        ({"gate": Reward("g", Politeness()), "gate_threshold": 1.5}, "`gate_threshold`"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_rewards_that_cannot_work_are_refused(settings, reason):
    with pytest.raises(RewardError) as caught:
        Reward(**{"name": "r", "scorer": Politeness(), **settings})
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scorer_that_is_not_hashable_is_refused():
    @dataclass
    class Mutable:
        kind: ClassVar[str] = "Mutable"
        value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

        def score(self, prompt, completion):
            return 0.0

    with pytest.raises(RewardError, match="must be a frozen dataclass"):
        Reward("r", Mutable())


def test_gates_are_limited_in_depth():
    chain = Reward("0", Politeness())
    for depth in range(1, 17):
        chain = Reward(str(depth), Politeness(), gate=chain)
    with pytest.raises(RewardError, match=r"limited to 16\. Found 17"):
        Reward("17", Politeness(), gate=chain)


def test_rewards_become_the_same_plain_json_when_they_are_the_same():
    gate = Reward("gate", AnswerMatch(partial_credit=True))
    reward = Reward("polite", Politeness(rudeness_penalty=1), 1, preference=2, gate=gate)
    same = Reward("polite", Politeness(rudeness_penalty=1.0), preference=2.0, gate=gate)
    text = json.dumps(identify_reward(reward), allow_nan=False)
    assert text == json.dumps(identify_reward(same), allow_nan=False)
    assert json.loads(text) == {
        "name": "polite",
        "kind": "Politeness",
        "options": {"wanted": 3, "rudeness_penalty": 1.0},
        "target": 1.0,
        "preference": 2.0,
        "gate": {
            "name": "gate",
            "kind": "AnswerMatch",
            "options": {
                "field": "reference",
                "mode": "contains",
                "tolerance": 0.0,
                "partial_credit": True,
            },
            "target": 1.0,
            "preference": 1.0,
            "gate": None,
            "gate_threshold": 0.5,
        },
        "gate_threshold": 0.5,
    }


def test_support_desk_replies_are_ranked_as_a_person_would():
    prompts = [
        make_prompt("My printer does not print.", fields={"reference": "restart the print spooler"})
    ] * 4
    replies = [
        "Hello, sorry for the trouble. Please restart the print spooler. Let me know if it helps.",
        "Restart the print spooler.",
        "Hello, sorry for the trouble. Please buy another printer. Let me know if it helps.",
        "Well, you know, printers are a long story, " * 12
        + "so restart the print spooler, you idiot.",
    ]
    rewards = [
        Reward("polite", Politeness()),
        Reward("concise", Conciseness(shortest=4, longest=25, tolerance=25)),
        Reward("solved", AnswerMatch()),
    ]
    scores = score_rewards(
        rewards, prompts, [Completion(text, 0) for text in replies], lambda: None
    )
    expected = [[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]]
    assert scores.tolist() == expected
