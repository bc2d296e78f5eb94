"""What a reward is.

A *scorer* is a frozen dataclass that turns one completion into a number in a known range. A
*reward* puts a name, a target, a preference and an optional gate around a scorer. A new kind of
reward is one more scorer file and one more line in `SCORERS`; nothing is inherited.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any, cast

from ..errors import RewardError, shorten
from ..identity import UnidentifiedError, identify, identify_fields
from ..options import describe
from .functions import FunctionScorer

# Long enough for any sensible plan; short enough that a malicious workflow cannot overflow the
# stack.
MAX_GATE_DEPTH = 16
MAX_NAME_CHARACTERS = 64


@dataclass(frozen=True)
class Reward:
    """A scorer with what the user wants of it.

    Attributes:
        name: Unique among the rewards of a run; used in messages, history and plots.
        scorer: Gives the number: a scorer, or a function of prompt and completion with results from 0 to 1.
        target: "Good enough", in the scorer's unit. None becomes the top of the scorer's range.
        preference: Weight of the user's wish, relative to the other rewards; 0 only watches.
        gate: Another reward which a completion must satisfy before this one counts.
        gate_threshold: The gate is satisfied from this value on, in the gate's unit.
    """

    name: str
    scorer: Any
    target: float | None = None
    preference: float = 1.0
    gate: Reward | None = None
    gate_threshold: float = 0.5

    def __post_init__(self) -> None:
        """Refuses a reward that could not work, and fills in the target.

        Raises:
            RewardError: A field has a wrong type or a value outside what makes sense.
        """
        _check_name(self.name)
        if isinstance(self.scorer, FunctionType | partial | MethodType):
            object.__setattr__(self, "scorer", FunctionScorer(self.scorer))
        bottom, top = _check_scorer(self.name, self.scorer)
        if self.target is None:
            object.__setattr__(self, "target", top)
        self._check_number("target", self.target, above=bottom, to=top)
        self._check_number("preference", self.preference, at_least=0.0)
        self._check_gate()

    def _check_number(
        self,
        field: str,
        value: object,
        *,
        at_least: float = -math.inf,
        above: float = -math.inf,
        to: float = math.inf,
    ) -> None:
        number = math.nan  # which no rule allows
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            with suppress(OverflowError):  # a whole number may be too large for a float
                number = float(value)
        if math.isfinite(number) and number >= at_least and above < number <= to:
            return
        if math.isfinite(to):
            rule = f"must be above {above:g} and at most {to:g}"
        else:
            rule = "must be a finite number" + (" of 0 or more" if at_least == 0 else "")
        raise RewardError(f"Reward {self.name!r}: `{field}` {rule}. Found {shorten(value)}.")

    def _check_gate(self) -> None:
        if self.gate is None:
            return self._check_number("gate_threshold", self.gate_threshold)
        if not isinstance(self.gate, Reward):
            raise RewardError(
                f"Reward {self.name!r}: `gate` must be another reward. Found {shorten(self.gate)}."
            )
        depth, gate = 1, self.gate
        while gate.gate is not None:
            depth, gate = depth + 1, gate.gate
        if depth > MAX_GATE_DEPTH:
            raise RewardError(
                f"Reward {self.name!r}: gates behind gates are limited to {MAX_GATE_DEPTH}. Found "
                f"{depth}; gate on the last reward of the chain instead."
            )
        bottom, top = self.gate.scorer.value_range
        # A threshold at the bottom lets everything pass, one above the top lets nothing pass.
        return self._check_number("gate_threshold", self.gate_threshold, above=bottom, to=top)


def _check_name(name: object) -> None:
    good = isinstance(name, str) and name.strip() == name != "" and name.isprintable()
    if not good or len(cast(str, name)) > MAX_NAME_CHARACTERS:
        raise RewardError(
            "A reward's `name` must be one line of 1 to "
            f"{MAX_NAME_CHARACTERS} printable characters without spaces around it. Found "
            f"{shorten(name)}."
        )


def _check_scorer(name: str, scorer: Any) -> tuple[float, float]:
    try:
        hash(scorer)
        bottom, top = scorer.value_range
        usable = callable(scorer.score) and isinstance(scorer.kind, str) and bottom < top
        if usable and is_dataclass(scorer) and not isinstance(scorer, type):
            return float(bottom), float(top)
    except (AttributeError, TypeError, ValueError) as error:
        raise RewardError(_not_a_scorer(name, scorer)) from error
    raise RewardError(_not_a_scorer(name, scorer))


def _not_a_scorer(name: str, scorer: object) -> str:
    return (
        f"Reward {name!r}: `scorer` must be a frozen dataclass with `kind`, `value_range` and "
        f"`score`, or a function of prompt and completion. Found {shorten(scorer)}."
    )


def identify_reward(reward: Reward) -> dict[str, Any]:
    """Return the reward as plain JSON, the same for equal rewards and for no others; identifies a run's settings.

    Raises:
        RewardError: A field of its scorer holds something that JSON cannot hold.
    """
    return {
        "name": reward.name,
        "kind": reward.scorer.kind,
        **_identify_scorer(reward),
        "target": float(cast(float, reward.target)),
        "preference": float(reward.preference),
        "gate": None if reward.gate is None else identify_reward(reward.gate),
        "gate_threshold": float(reward.gate_threshold),
    }


def _identify_scorer(reward: Reward) -> dict[str, Any]:
    """Return the options of this pack's own kinds; of anyone else's scorer its code too."""
    scorer = reward.scorer
    own = type(scorer).__module__.rpartition(".")[0] == __package__
    declared = {item.name: item.type for item in describe(type(scorer))}
    try:
        values = identify_fields(scorer)
        options = {
            name: declared[name](value) if name in declared else value
            for name, value in values.items()
        }
        return {"options": options} if own else {"options": options, "code": identify(type(scorer))}
    except UnidentifiedError as error:
        raise RewardError(
            f"Reward {reward.name!r}: its scorer {type(scorer).__name__} holds {error}, by which a run could not be "
            "told from another; give it numbers, texts, tuples, dataclasses or functions instead."
        ) from error
