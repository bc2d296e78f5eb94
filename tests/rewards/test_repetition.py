"""Repetition: the share of different sequences."""

from __future__ import annotations

import pytest
from scored import score

from gdpo.rewards import (
    Repetition,
)


@pytest.mark.parametrize(
    ("size", "text", "expected"),
    [
        (3, "one two three four five six", 1.0),
        # trigrams of abcabc: abc bca cab abc: 3 of 4 differ
        (3, "a b c a b c", 0.75),
        (1, "no no yes no", 0.5),
        (3, "No, NO no!", 1 / 3),
        (3, "no no", 0.5),
        (3, "yes", 1.0),
        # です。です。です: six characters, pairs で-す す-で で-す す-で で-す: 2 of 5 differ
        (2, "です。です。です", 0.4),
    ],
)
def test_repetition_is_the_share_of_different_sequences(size, text, expected):
    assert score(Repetition(size=size), text) == pytest.approx(expected)
