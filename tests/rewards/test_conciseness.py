"""Conciseness: the reward falls outside of a band of lengths."""

from __future__ import annotations

from scored import score

from gdpo.rewards import (
    Conciseness,
)


def test_conciseness_falls_linearly_outside_the_band():
    scorer = Conciseness(shortest=2, longest=3, tolerance=3)
    # A word more or less than the band costs 1 / (tolerance + 1).
    expected = [0.0, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert [score(scorer, " ".join(["word"] * n)) for n in range(9)] == expected


def test_conciseness_without_tolerance_is_all_or_nothing():
    scorer = Conciseness(shortest=1, longest=2, tolerance=0)
    assert [score(scorer, "a " * n) for n in range(4)] == [0.0, 1.0, 1.0, 0.0]


def test_conciseness_counts_words_characters_or_tokens():
    text = "Don't wait: 1,250 users - 3.5 GB!"  # don't, wait, 1250, users, 3.5, gb
    assert score(Conciseness(shortest=6, longest=6, tolerance=0), text) == 1.0
    letters = len(text) - text.count(" ")
    exact = {"shortest": letters, "longest": letters, "tolerance": 0}
    assert score(Conciseness(unit="characters", **exact), text) == 1.0
    exact = {"shortest": 9, "longest": 9, "tolerance": 0}
    assert score(Conciseness(unit="tokens", **exact), text, tokens=9) == 1.0
    assert score(Conciseness(unit="tokens", **exact), text, tokens=10) == 0.0


def test_a_japanese_character_counts_as_a_word():
    # 再 起 動 し て く だ さ い makes nine, PC one; the full stop none.
    scorer = Conciseness(shortest=10, longest=10, tolerance=0)
    assert score(scorer, "PC再起動してください。") == 1.0
