"""Whether every prompt can be rendered, and fits into the model's context together with a completion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..errors import PolicyError
from ..policies.base import Base
from ..policies.chat import context_length
from ..policies.measuring import count_tokens
from ..policies.stranger import UnusableError
from ..progress import Progress
from ..prompts import Prompt

_SHOWN = 3
# Then the template is of no use for these prompts, and the others need not be rendered.
_MOST_REFUSED = 100
_BETWEEN_PHASES = 256  # prompts


class PromptTokens(NamedTuple):
    """How many tokens the longest and the shortest prompt have, of those that fit; at least 1."""

    longest: int = 1
    shortest: int = 1


class _Places:
    """Where something was found: how often, and the first few places."""

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[str] = []

    def add(self, place: str) -> None:
        self.count += 1
        if len(self._shown) < _SHOWN:
            self._shown.append(place)

    def __str__(self) -> str:
        more = "; ..." if self.count > len(self._shown) else ""
        return "; ".join(self._shown) + more


class _Rows:
    """What is found about one set of prompts, of which no text and no token is kept."""

    def __init__(self, what: str, limit: int | None, new_tokens: int) -> None:
        self._what, self._limit, self._new_tokens = what, limit, new_tokens
        self._refused, self._empty, self._long = _Places(), _Places(), _Places()
        self._system = False  # whether one that was refused has a system message
        self._ended = ""
        self.counts: list[int] = []  # tokens, of those that fit

    def add(self, prompt: Prompt, measured: int | str) -> bool:
        """Take up how many tokens a prompt has, or why it has none; False where the rest need not be measured."""
        if isinstance(measured, str):
            self._refused.add(f"{prompt.place}: {measured}")
            self._system |= prompt.messages[0][0] == "system"
        elif measured == 0:
            self._empty.add(prompt.place)
        elif self._limit is not None and measured + self._new_tokens > self._limit:
            self._long.add(f"{prompt.place} with {measured}")
        else:
            self.counts.append(measured)
        return self._refused.count < _MOST_REFUSED

    def end(self, prompt: Prompt, reason: str) -> None:
        """Take up a prompt with which the worker came to its end."""
        self._refused.add(f"{prompt.place}: {reason}")
        self._ended = "; those after it were not looked at"

    def refusals(self) -> Iterator[PolicyError]:
        """Yield an error for each kind of finding."""
        if self._refused.count:
            yield PolicyError(self._say_refused(self._refused.count))
        if self._empty.count:
            become = "becomes" if self._empty.count == 1 else "become"
            yield PolicyError(
                f"{self._empty.count} of the {self._what} {become} no tokens ({self._empty}); remove them."
            )
        if self._long.count and self._limit is not None:
            yield PolicyError(self._say_long(self._long.count, self._limit))

    def _say_refused(self, count: int) -> str:
        remedy = (
            "many templates know no system role: leave `system` empty"
            if self._system
            else "change or remove them, or get the model's original files"
        )
        shown = f"{count} or more" if count >= _MOST_REFUSED else str(count)
        return (
            f"The model's chat template or tokenizer refuses {shown} of the {self._what} "
            f"({self._refused}{self._ended}); {remedy}."
        )

    def _say_long(self, count: int, limit: int) -> str:
        room, given = limit - self._new_tokens, f"`max_new_tokens` {self._new_tokens}"
        if room < 1:
            return f"{given} leaves no room for a prompt in the model's context of {limit} tokens; lower it."
        are = "is" if count == 1 else "are"
        return (
            f"{count} of the {self._what} {are} too long: the model's context of {limit} tokens leaves {room} beside "
            f"{given} ({self._long}); lower `max_new_tokens`, or shorten or remove them."
        )


def measure_prompts(
    base: Base,
    prompts: Sequence[Prompt],
    heldout: Sequence[Prompt],
    new_tokens: int,
    progress: Progress,
) -> tuple[PromptTokens, list[PolicyError]]:
    """Return how many tokens the prompts have that fit, and an error for each kind of those that do not.

    Args:
        base: The model, whose tokenizer and context count.
        prompts: Prompts to train on.
        heldout: Prompts to evaluate on.
        new_tokens: Longest completion, in tokens.
        progress: Receives the number of measured prompts, and may stop the work by raising.

    Raises:
        PolicyError: The worker cannot be used.
    """
    limit, found = context_length(base.model), list[PolicyError]()
    total, done, counts = len(prompts) + len(heldout), 0, list[int]()
    for rows, what in ((prompts, "prompts"), (heldout, "held-out prompts")):
        about = _Rows(f"{len(rows)} {what}", limit, new_tokens)
        _measure(base, rows, about, progress, done, total)
        found += about.refusals()
        counts, done = counts + about.counts, done + len(rows)
    progress.phase("checking", total, total)
    return (PromptTokens(max(counts), min(counts)) if counts else PromptTokens()), found


def _measure(
    base: Base, rows: Sequence[Prompt], into: _Rows, progress: Progress, done: int, total: int
) -> None:
    """Measure one set, after `done` of `total` prompts."""
    try:
        for number, measured in enumerate(count_tokens(base.tokenizer, rows, poll=progress.poll)):
            if number % _BETWEEN_PHASES == 0:
                progress.phase("checking", done + number, total)
            if not into.add(rows[number], measured):
                return
    except UnusableError as error:
        into.end(rows[error.index], str(error))
