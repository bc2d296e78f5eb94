"""What holds for every kind of reward: ranges, empty and huge texts, settings."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from functools import partial

import pytest
from counting import steps
from scored import refused, score

from gdpo.rewards import (
    SCORERS,
    AnswerMatch,
    Conciseness,
    JSONSchema,
    Keywords,
    Pattern,
    Politeness,
    Repetition,
    describe,
)

EXAMPLES = [
    Conciseness(shortest=0),
    Conciseness(unit="characters", shortest=0),
    Conciseness(unit="tokens", shortest=0),
    Politeness(wanted=1),
    Keywords(forbidden="refund"),
    Keywords(required="x", enough="any"),
    Pattern("{x}: {y}"),
    Pattern(".*", "regex"),
    Pattern("^$", "regex"),
    JSONSchema("{}"),
    AnswerMatch(),
    AnswerMatch(mode="exact", partial_credit=True),
    AnswerMatch(mode="numeric", tolerance=1e12),
    Repetition(),
    Repetition(size=1),
]
NOTHING = ["", " ", "\n\t", "\u3000", "\u200b\ufeff", "\0"]


def test_every_kind_is_registered_under_its_stable_name_and_has_an_example_here():
    assert list(SCORERS) == [
        "Conciseness",
        "Politeness",
        "Keywords",
        "Pattern",
        "JSONSchema",
        "AnswerMatch",
        "Repetition",
    ]
    assert {type(scorer) for scorer in EXAMPLES} == set(SCORERS.values())
    for name, kind in SCORERS.items():
        assert kind.kind == name
        assert kind.summary.endswith(".")
        assert kind.value_range == (0.0, 1.0)


@pytest.mark.parametrize("scorer", EXAMPLES, ids=repr)
def test_an_empty_completion_earns_nothing(scorer):
    found = {text: score(scorer, text, reference="5", tokens=1) for text in NOTHING}
    assert found == dict.fromkeys(NOTHING, 0.0)


@pytest.mark.parametrize("scorer", EXAMPLES, ids=repr)
def test_punctuation_alone_never_earns_the_full_reward_of_a_worded_kind(scorer):
    if not isinstance(scorer, Pattern):
        assert score(scorer, "...", reference="5", tokens=1) == 0.0


ODD = ("a", "a ", "あ", "，、", "1,", "\u0300\u0316", "{", "```", '"\\', "ﷺ")
LONE_SURROGATE = "\ud800 lone"


@pytest.mark.parametrize("scorer", EXAMPLES, ids=repr)
def test_huge_and_odd_texts_are_scored_in_range(scorer):
    for text in (LONE_SURROGATE, *(part * (100_000 // len(part)) for part in ODD)):
        value = score(scorer, text, reference="5 a", tokens=5)
        assert value is not None, ascii(text[:6])
        assert 0.0 <= value <= 1.0, ascii(text[:6])


@pytest.mark.parametrize("scorer", EXAMPLES, ids=repr)
def test_a_text_twice_as_long_takes_at_most_twice_the_work(scorer):
    for part in ODD:
        score(scorer, part, reference="5 a", tokens=5)  # compiles what is compiled once
        once, twice = (
            steps(partial(score, scorer, part * count, reference="5 a", tokens=5))
            for count in (500, 1000)
        )
        assert twice <= 2.1 * once, ascii(part)


def test_scorers_are_immutable_documented_values():
    for kind in SCORERS.values():
        assert is_dataclass(kind)
        assert kind.__dataclass_params__.frozen
        settings = describe(kind)
        assert [item.name for item in settings] == [item.name for item in fields(kind)]
        for item in settings:
            assert item.type in (bool, int, float, str)
            assert len(item.help) > 20
            assert item.help.endswith(".")
            if item.type in (int, float):
                assert item.minimum <= item.default <= item.maximum
    assert Politeness() == Politeness()
    assert hash(Politeness()) == hash(Politeness())


@pytest.mark.parametrize("kind", [kind for kind in SCORERS.values() if kind is not Keywords])
def test_default_settings_are_valid(kind):
    kind()


def bad_settings(kind):
    """Every numeric, boolean and text setting of the kind with values that it must refuse."""
    for item in describe(kind):
        wrong = {
            bool: [1, "true", None],
            int: [True, 1.0, "3", None, math.nan],
            float: [True, "3", None, math.nan, math.inf, -math.inf],
            str: [5, None, b"x", "x" * 20_001],
        }[item.type]
        if item.minimum is not None:
            wrong += [item.minimum - 1, item.maximum + max(1, item.maximum)]
        if item.choices:
            wrong += ["", item.choices[0].upper() + " "]
        yield from ((item.name, value) for value in wrong)


@pytest.mark.parametrize("kind", SCORERS.values(), ids=list(SCORERS))
def test_settings_of_wrong_type_or_range_are_refused_by_name(kind):
    for name, value in bad_settings(kind):
        message = refused(kind, **{name: value})
        assert f"`{name}`" in message, (name, value)
