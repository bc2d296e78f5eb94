"""How the tests of rewards call a scorer, and see one refused."""

from __future__ import annotations

import pytest

from gdpo.errors import RewardError
from gdpo.prompts import make_prompt
from gdpo.rewards import Completion


def score(scorer, text: str, *, tokens: int = 0, **fields: object) -> float | None:
    return scorer.score(make_prompt("question", fields=fields), Completion(text, tokens))


def refused(scorer_type, **settings) -> str:
    with pytest.raises(RewardError) as caught:
        scorer_type(**settings)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message
