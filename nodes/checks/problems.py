"""Collects what is wrong with a workflow into one error of bounded length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from ...gdpo.errors import WorkflowError
from ...gdpo.printable import printable
from .declared import suggestion

# Lines that an error shows, and characters of each.
MAX_PROBLEMS = 50
MAX_LINE = 380


@dataclass(frozen=True)
class Problem:
    """One line of the error; made to text only if it is shown, since a file may hold very many.

    Attributes:
        place: The node, and the input if it is one.
        text: What is wrong.
        name: An unknown name, for which the nearest of `known` is suggested.
        known: Names that would have been right.
    """

    place: str
    text: str
    name: str = ""
    known: Iterable[str] = ()

    def __str__(self) -> str:
        """Return the line."""
        return f"{self.place}: {self.text}{suggestion(self.name, self.known) if self.name else ''}"


def refuse(problems: Iterator[object]) -> None:
    """Raise the first problems, each one's text a line, as one error, if there are any."""
    lines = [_cut(printable(str(problem))) for problem in islice(problems, MAX_PROBLEMS)]
    more = sum(1 for _ in problems)
    if more:
        lines.append(f"... and {more} more problem{'s' if more > 1 else ''}")
    if lines:
        raise WorkflowError("\n".join(lines))


def _cut(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"
