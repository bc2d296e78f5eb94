"""Answer match: words and numbers that mean the same are the same."""

from __future__ import annotations

import pytest
from scored import refused, score

from gdpo.errors import RewardError
from gdpo.rewards import (
    AnswerMatch,
)


@pytest.mark.parametrize(
    ("mode", "reference", "text", "expected"),
    [
        ("contains", "restart the print spooler", "Please RESTART the print-spooler, thanks.", 1.0),
        ("contains", "restart the print spooler", "Restart the Windows print spooler", 0.0),
        ("contains", "art", "Restart", 0.0),
        ("contains", "5", "It is 15", 0.0),
        ("contains", "1250", "It costs $1,250.", 1.0),
        ("contains", 1250, "It costs 1,250", 1.0),
        ("contains", ["reboot", "restart"], "Just restart it", 1.0),
        ("contains", "再起動", "PCを再起動してください。", 1.0),
        ("contains", "ＷｉＦｉ", "turn on wifi", 1.0),
        ("exact", "Restart it!", " restart  it ", 1.0),
        ("exact", "restart it", "restart it now", 0.0),
        ("exact", "-5", "5", 0.0),
        ("exact", "-5", "−5", 1.0),
        ("exact", "don't", "Don’t", 1.0),
        ("numeric", 72, "48 + 24 = 72 clips.", 1.0),
        ("numeric", 72, "72 clips, so 2 boxes", 0.0),
        ("numeric", "#### 1,250", "1250.0", 1.0),
        ("numeric", 0.3, "about 0.4", 0.0),
        ("numeric", -3, "x = -3", 1.0),
        ("numeric", -3, "10-3", 0.0),
        ("numeric", 3, "10-3", 0.0),  # a range or a sum, not one quantity
        ("numeric", 42, "答えは４２です", 1.0),
        ("numeric", 2000, "2e3", 1.0),
        ("numeric", 5, "none", 0.0),
        ("numeric", 5, "1e999", 0.0),
        ("numeric", 5, "9" * 5000, 0.0),
    ],
)
def test_answers_match_by_words_or_numbers(mode, reference, text, expected):
    assert score(AnswerMatch(mode=mode), text, reference=reference) == expected


def test_numeric_tolerance_is_absolute():
    scorer = AnswerMatch(mode="numeric", tolerance=0.5)
    assert [score(scorer, text, reference=10) for text in ("9.4", "9.5", "10.5", "10.6")] == [
        0,
        1,
        1,
        0,
    ]


@pytest.mark.parametrize(
    ("mode", "text", "expected"),
    [
        ("contains", "please restart the print spooler now", 1.0),
        ("contains", "restart the Windows print spooler", 0.5),  # 2 of 4 words in one piece
        ("contains", "check the print spooler", 0.75),
        ("contains", "the", 0.25),
        ("contains", "spooler print the restart", 0.25),
        ("contains", "no idea", 0.0),
        ("exact", "restart the print spooler", 1.0),
        ("exact", "please restart the print spooler", 0.8),  # 4 of 5
        ("exact", "restart the", 0.5),
    ],
)
def test_partial_credit_is_the_longest_unbroken_share(mode, text, expected):
    scorer = AnswerMatch(mode=mode, partial_credit=True)
    assert score(scorer, text, reference="Restart the print spooler.") == expected


def test_prompts_without_a_reference_are_unscored_and_bad_references_are_errors():
    assert score(AnswerMatch(), "x") is None
    assert score(AnswerMatch(), "x", reference=None) is None
    for bad, reason in [
        ("", "is empty"),
        ([], "is empty"),
        (["a", " "], "is empty"),
        ("x" * 20_001, "may have 20000 characters"),
        ("?!", "1 to 1000 words. Found 0"),
        ("a " * 1001, "1 to 1000 words. Found 1001"),
        (True, "must be a text, a number or a list"),
        ({"a": 1}, "must be a text, a number or a list"),
        ([["a"]], "must be a text, a number or a list"),
    ]:
        with pytest.raises(RewardError, match=reason):
            score(AnswerMatch(), "x", reference=bad)
    for bad in ("none", "1e999"):
        with pytest.raises(RewardError, match="must be one quantity in the mode numeric"):
            score(AnswerMatch(mode="numeric"), "5", reference=bad)
    assert "`field` must name" in refused(AnswerMatch, field=" ")


def test_digits_that_this_python_does_not_know_are_no_number():
    newer = "\U0001e4f1"  # of Unicode 15, which `regex` knows and Python 3.11 does not
    scorer = AnswerMatch(mode="numeric")
    assert score(scorer, f"{newer} and 5", reference="5") == 1.0
    assert score(scorer, f"5 {newer}{newer}x", reference="7") == 0.0
