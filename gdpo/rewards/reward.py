"""What a reward is.

A *scorer* is a frozen dataclass that turns one completion into a number in a known range. A
*reward* puts a name, a target, a preference and an optional gate around a scorer. A new kind of
reward is one more scorer file and one more line in `SCORERS`; nothing is inherited.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, is_dataclass
from typing import Any, ClassVar, Protocol, cast

from ..errors import RewardError, shorten
from ..options import describe
from ..prompts import Prompt

# Long enough for any sensible plan; short enough that a malicious workflow cannot overflow the
# stack.
MAX_GATE_DEPTH = 16
MAX_NAME_CHARACTERS = 64


@dataclass(frozen=True)
class Completion:
    """A sampled text. `truncated` means that it hit the token limit before it ended by itself."""

    text: str
    tokens: int
    truncated: bool = False


class Scorer(Protocol):
    """Anything that scores a completion. Must be an immutable, hashable value."""

    kind: ClassVar[str]
    summary: ClassVar[str]
    value_range: ClassVar[tuple[float, float]]

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """A number inside `value_range`, or None where this prompt cannot be scored."""
        ...


@dataclass(frozen=True)
class Reward:
    """A scorer with what the user wants of it.

    Attributes:
        name: Unique among the rewards of a run; used in messages, history and plots.
        scorer: Gives the number.
        target: "Good enough", in the scorer's unit. None becomes the top of the scorer's range.
        preference: How much the user cares, relative to the other rewards; 0 only watches.
        gate: Another reward which a completion must satisfy before this one counts.
        gate_threshold: The gate is satisfied from this value on, in the gate's unit.
    """

    name: str
    scorer: Scorer
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
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and math.isfinite(value) and value >= at_least and above < value <= to:
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
        is_value = is_dataclass(scorer) and not isinstance(scorer, type)
        if is_value and callable(scorer.score) and isinstance(scorer.kind, str) and bottom < top:
            return float(bottom), float(top)
    except (AttributeError, TypeError, ValueError) as error:
        raise RewardError(_not_a_scorer(name, scorer)) from error
    raise RewardError(_not_a_scorer(name, scorer))


def _not_a_scorer(name: str, scorer: object) -> str:
    return (
        f"Reward {name!r}: `scorer` must be a frozen dataclass with `kind`, `value_range` and "
        f"`score`. Found {shorten(scorer)}."
    )


def to_json(reward: Reward) -> dict[str, Any]:
    """The reward as plain JSON, the same for equal rewards; identifies a run's settings."""
    scorer = reward.scorer
    values = {item.name: item.type(getattr(scorer, item.name)) for item in describe(type(scorer))}
    return {
        "name": reward.name,
        "kind": scorer.kind,
        "options": values,
        "target": float(cast(float, reward.target)),
        "preference": float(reward.preference),
        "gate": None if reward.gate is None else to_json(reward.gate),
        "gate_threshold": float(reward.gate_threshold),
    }
