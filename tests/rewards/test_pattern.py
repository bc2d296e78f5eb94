"""Pattern: templates and regular expressions, which always end in time."""

from __future__ import annotations

import pytest
from scored import refused, score

from gdpo.errors import RewardError
from gdpo.rewards import (
    Pattern,
    bounded_regex,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Problem: no ink Solution: refill", 1.0),
        ("  Problem:\n no ink\n\nSolution: refill\n", 1.0),
        ("Problem: Solution: refill", 0.5),  # both parts, but nothing between them
        ("Problem: no ink Solution:", 0.5),
        ("Sure! Problem: no ink Solution: refill", 0.5),
        ("Solution: refill. Problem: no ink", 0.25),
        ("Problem: no ink", 0.25),
        ("problem: no ink solution: refill", 0.0),
        ("Refill it.", 0.0),
    ],
)
def test_a_template_pays_1_for_the_form_and_up_to_half_for_its_parts(text, expected):
    assert score(Pattern("Problem: {problem}\nSolution: {solution}"), text) == expected


def test_templates_know_braces_case_and_japanese():
    assert score(Pattern("{{{x}}}"), "{value}") == 1.0
    assert score(Pattern("ANSWER: {x}.", ignore_case=True), "Answer: 5.") == 1.0
    assert score(Pattern("原因：{a}。対策：{b}。"), "原因：紙詰まり。対策：紙を取り除く。") == 1.0
    # Of the three fixed parts 「原因：」「。対策：」「。」 only the last is there: half of a third.
    assert score(Pattern("原因：{a}。対策：{b}。"), "紙を取り除く。") == pytest.approx(1 / 6)


def test_a_regular_expression_must_be_found():
    assert score(Pattern(r"^Answer: \d+$", "regex"), " Answer: 42\n") == 1.0
    assert score(Pattern(r"^Answer: \d+$", "regex"), "The Answer: 42") == 0.0
    assert score(Pattern("answer", "regex", ignore_case=True), "ANSWER") == 1.0
    assert score(Pattern(r"\p{Hiragana}", "regex"), "です") == 1.0
    assert score(Pattern(r"^\(?1\)? \d{4}-\d{2}-\d{2}$", "regex"), "(1) 2024-05-06") == 1.0


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"syntax": "regex", "pattern": "(unclosed"}, "is not valid: missing )"),
        ({"syntax": "regex", "pattern": ""}, "1 to 1000 characters. Found 0"),
        ({"syntax": "regex", "pattern": "x" * 1001}, "1 to 1000 characters. Found 1001"),
        ({"syntax": "regex", "pattern": "(" * 450 + ")" * 450}, "is not valid"),
        ({"syntax": "regex", "pattern": "((a{1000}){1000}){1000}"}, "repeats too often"),
        ({"syntax": "regex", "pattern": "a{4000000000}"}, "repeats too often"),
        ({"syntax": "regex", "pattern": "(?x)(a{ 1000}) {1000} {1000}"}, "repeats too often"),
        ({"syntax": "regex", "pattern": "(?R)a|b"}, "is recursive"),
        ({"syntax": "regex", "pattern": r"\\(a(?1)?b)"}, "is recursive"),
        ({"pattern": "{open"}, "is not valid"),
        ({"pattern": "only text"}, "needs fixed text and at least one placeholder"),
        ({"pattern": "{all}"}, "needs fixed text and at least one placeholder"),
        ({"pattern": "Answer: {}"}, "that is not a name"),
        ({"pattern": "Answer: {x:>10}"}, "that is not a name"),
        ({"pattern": "Answer: {x!r}"}, "that is not a name"),
        ({"syntax": "glob"}, "`syntax` must be one of 'template', 'regex'. Found 'glob'"),
    ],
)
def test_patterns_that_cannot_be_used_are_refused_at_once(settings, reason):
    assert reason in refused(Pattern, **settings)


@pytest.mark.parametrize("pattern", ["(a|aa)+$", r"(.+)\1\1\1$", "(x*)*(a*)*y|(x+a+)+b"])
def test_catastrophic_patterns_end_in_an_error_naming_the_time_limit(pattern, monkeypatch):
    monkeypatch.setattr(bounded_regex, "TIME_LIMIT_SECONDS", 0.2)
    scorer = Pattern(pattern, "regex")
    text = "a" * 30_000 + "!" if pattern[1] != "x" else "xa" * 15_000 + "!y"
    with pytest.raises(RewardError, match=r"took more than 0\.2 s on a text of 3000\d char"):
        score(scorer, text)


def test_the_classic_catastrophic_pattern_is_answered_or_stopped():
    assert score(Pattern("(a+)+$", "regex"), "a" * 40 + "!") == 0.0
