"""Keywords: required words earn, forbidden words cost."""

from __future__ import annotations

import pytest
from scored import refused, score

from gdpo.errors import RewardError
from gdpo.rewards import (
    Keywords,
)


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({"required": "router, Modem"}, "Your MODEM and your router", 1.0),
        ({"required": "router, modem"}, "Your modem", 0.5),
        ({"required": "router, modem", "enough": "any"}, "Your modem", 1.0),
        ({"required": "router, modem", "enough": "any"}, "Your printer", 0.0),
        ({"required": "net"}, "The internet is a network", 0.0),
        ({"required": "print  spooler"}, "restart the Print\nspooler.", 1.0),
        ({"required": "C++"}, "written in c++", 1.0),
        ({"forbidden": "refund"}, "No money back", 1.0),
        ({"forbidden": "refund\nlawyer"}, "A refund, or a lawyer", 0.25),
        ({"required": "router", "forbidden": "refund"}, "router refund refund", 0.5),
        ({"required": "再起動、設定"}, "ルーターを再起動してください", 0.5),
        ({"required": "ＰＣ"}, "このpcを再起動", 1.0),
        ({"required": "프린터"}, "프린터를 다시 켜세요", 1.0),
    ],
)
def test_keywords_give_the_share_found_halved_per_forbidden_one(settings, text, expected):
    assert score(Keywords(**settings), text) == expected


def test_keywords_from_a_prompt_column_join_the_fixed_ones():
    scorer = Keywords(required="please", field="must")
    assert score(scorer, "please use the cable", must="cable, router") == pytest.approx(2 / 3)
    assert score(scorer, "please use the cable", must=["cable"]) == 1.0
    assert score(scorer, "please use 5", must=5) == 1.0
    assert score(scorer, "please") is None
    assert score(scorer, "please", must=None) is None
    with pytest.raises(RewardError, match="field 'must' is empty"):
        score(scorer, "please", must=" ")


def test_keywords_that_look_for_nothing_or_contradict_themselves_are_refused():
    assert "all three are empty" in refused(Keywords)
    assert "all three are empty" in refused(Keywords, required=" , \n", field=" ")
    many = ", ".join(map(str, range(501)))
    assert "at most 500 keywords" in refused(Keywords, required=many)
    with pytest.raises(RewardError, match="at most 500 keywords"):
        score(Keywords(field="must"), "x", must=many)
    assert "'refund' is both" in refused(Keywords, required="Refund", forbidden="ＲＥＦＵＮＤ")


@pytest.mark.parametrize("word", ["b" * 6000, "[" * 33 + "ab" * 3000, "あい" * 3000])
def test_a_word_of_any_length_is_found_whole_and_in_no_time(word):
    scorer = Keywords(
        field="reference"
    )  # `regex` alone would take a minute before its first search
    for text, expected in ((f"say {word}.", 1.0), (word[:-1], 0.0), (f"a{word}a"[:-2], 0.0)):
        assert score(scorer, text, reference=word) == expected
