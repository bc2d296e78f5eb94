"""What a reply is measured by, each in [0, 1], and the rewards made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from gdpo.options import option
from gdpo.prompts import Prompt
from gdpo.rewards.scorer import Completion

from .world import FILLERS, LONGEST_REPLY, PROBLEMS


def _fix(prompt: str, words: list[str]) -> float:
    return _only(prompt, words, PROBLEMS[prompt.split()[1]])


def _steps(prompt: str, words: list[str]) -> float:
    first, second = PROBLEMS[prompt.split()[1]]
    return _only(prompt, words, ("first", first, "then", second))


def _only(prompt: str, words: list[str], wanted: tuple[str, ...]) -> float:
    """1 if the words are there in this order and no word of another problem's fix is."""
    size, own = len(wanted), set(PROBLEMS[prompt.split()[1]])
    found = any(tuple(words[i : i + size]) == wanted for i in range(len(words)))
    others = {word for fix in PROBLEMS.values() for word in fix} - own
    return float(found and not others & set(words))


def _brevity(limit: int) -> Callable[[str, list[str]], float]:
    def score(prompt: str, words: list[str]) -> float:
        return min(1.0, (LONGEST_REPLY - len(words)) / (LONGEST_REPLY - limit))

    return score


def _polite(prompt: str, words: list[str]) -> float:
    return ("please" in words) / 2 + ("thanks" in words) / 2


def _format(prompt: str, words: list[str]) -> float:
    return float(len(words) > 1 and words[0] == "hello" and words[-1] == "bye")


def _plain(prompt: str, words: list[str]) -> float:
    return 1 - min(4, sum(word in FILLERS for word in words)) / 4


def _says(word: str) -> Callable[[str, list[str]], float]:
    return lambda prompt, words: float(word in words)


def _names_problem(prompt: str, words: list[str]) -> float:
    return float(prompt.split()[1] in words)


def _no_repeat(prompt: str, words: list[str]) -> float:
    return len(set(words)) / len(words) if words else 0.0


def _apology_first(prompt: str, words: list[str]) -> float:
    return float("sorry" in words[:2])


MEASURES: dict[str, Callable[[str, list[str]], float]] = {
    "accuracy": _fix,
    "steps": _steps,
    "brevity8": _brevity(8),
    "brevity10": _brevity(10),
    "brevity11": _brevity(11),
    "politeness": _polite,
    "format": _format,
    "plain": _plain,
    "team": _says("team"),
    "guide": _says("guide"),
    "problem": _names_problem,
    "no_repeat": _no_repeat,
    "apology": _apology_first,
}


@dataclass(frozen=True)
class Measured:
    """One of this benchmark's measures, at a scale."""

    kind: ClassVar[str] = "Measured"
    summary: ClassVar[str] = "A measure of the benchmark."

    measure: str = option("accuracy", "Which.")
    scale: float = option(1.0, "Width of the range.")

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0 to the scale."""
        return 0.0, self.scale

    def score(self, prompt: Prompt, completion: Completion) -> float:
        """Return the measure, in [0, 1], times the scale."""
        return self.scale * MEASURES[self.measure](prompt.text, completion.text.split())
