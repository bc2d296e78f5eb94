"""A prompt: what the policy is asked, with the other columns of its row for the rewards to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import PromptError, shorten


@dataclass(frozen=True)
class Origin:
    """The file that prompts came from.

    Attributes:
        name: Name of the file.
        unit: Word for a prompt's place in it: "line" or "row".
    """

    name: str
    unit: str


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        messages: (role, content) pairs; the last one is what the policy answers.
        fields: All other columns of the row, by name, as the file gave them.
        line: Line of the file at which the row starts, from 1, or the row's number in a JSON document or a
            Parquet file; 0 when it came from no file.
        origin: The file, where that is known; it does not make another prompt.
    """

    messages: tuple[tuple[str, str], ...]
    fields: Mapping[str, object] = field(default_factory=dict, hash=False)
    line: int = 0
    origin: Origin | None = field(default=None, compare=False, repr=False)

    @property
    def place(self) -> str:
        """Return where the prompt is found, as messages name it: its line and file, or its own text."""
        if not self.line:
            return f"the prompt {shorten(self.text)}"
        if self.origin is None:
            return f"line {self.line}"
        return f"{self.origin.unit} {self.line} of {shorten(self.origin.name)}"

    @property
    def text(self) -> str:
        """Return the content of the last message."""
        return self.messages[-1][1]


def make_prompt(
    text: str, *, system: str = "", fields: Mapping[str, object] | None = None, line: int = 0
) -> Prompt:
    """Return a prompt of one user message, after a system message if `system` is not empty."""
    messages = ((("system", system),) if system else ()) + (("user", text),)
    return Prompt(messages, dict(fields or {}), line)


def as_prompts(prompts: Sequence[Prompt | str]) -> tuple[Prompt, ...]:
    """Return the prompts, with each plain text as a user's message.

    Raises:
        PromptError: It is one text instead of a list.
    """
    if isinstance(prompts, str):
        raise PromptError(
            f"`prompts` must be a list. Found the text {shorten(prompts)}; put it in brackets."
        )
    return tuple(make_prompt(one) if isinstance(one, str) else one for one in prompts)
