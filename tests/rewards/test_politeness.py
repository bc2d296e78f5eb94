"""Politeness: courtesies count once, rudeness costs."""

from __future__ import annotations

import pytest
from scored import score

from gdpo.rewards import (
    Politeness,
)
from gdpo.rewards.courtesies import COURTESIES, RUDENESS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Restart the router.", 0.0),
        ("Please restart the router.", 1 / 3),
        ("Hello! Please restart the router.", 2 / 3),
        ("Hello, sorry about that. PLEASE restart the router.", 1.0),
        ("Hello, thanks, sorry, please, glad to help, of course.", 1.0),
        ("Please please please, could you kindly restart it?", 1 / 3),
        ("It is your own fault.", 0.0),
        ("Hello, sorry, please wait, you idiot.", 0.5),
        ("Hello, sorry, please wait, you stupid, stupid idiot.", 0.0),
        ("You’re welcome.", 1 / 3),
        ("They were pleased with Chicago.", 0.0),  # neither "please" nor "hi"
        ("It is not your fault. The errors will go away.", 0.0),
        ("ルーターを再起動する。", 0.0),
        ("ルーターを再起動してください。", 1 / 3),
        ("お待たせして申し訳ありません。", 2 / 3),  # empathy, and a polite ending
        (
            "お世話になっております。ご不便をおかけし申し訳ございません。再起動をお願いいたします。",
            1.0,
        ),
        ("ますます悪くなる。", 0.0),
        ("こんにちは。恐縮だがお試しください、馬鹿。", 0.5),
        ("うるさい。お前が悪い。", 0.0),
        ("バカンスの写真", 0.0),
    ],
)
def test_politeness_pays_each_kind_of_courtesy_once_and_subtracts_rudeness(text, expected):
    assert score(Politeness(wanted=3, rudeness_penalty=0.5), text) == pytest.approx(expected)


def test_rude_markers_only_lower_politeness():
    polite = "Hello, sorry about that, please restart it."
    rude = ["shut up", "not my problem", "黙れ", "ふざけるな", "use your brain"]
    scores = [
        score(Politeness(rudeness_penalty=0.2), polite + " ".join(rude[:n])) for n in range(6)
    ]
    assert scores == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])


def test_every_courtesy_and_rudeness_in_the_lists_is_found():
    for kind, (english, _) in COURTESIES.items():
        assert all(score(Politeness(wanted=1), phrase) == 1.0 for phrase in english), kind
    polite = "hello "
    for phrase in RUDENESS[0]:
        assert score(Politeness(wanted=1, rudeness_penalty=1.0), polite + phrase) == 0.0, phrase


def test_full_width_letters_are_read_like_normal_ones():
    assert score(Politeness(wanted=1), "Ｐｌｅａｓｅ wait") == 1.0
