"""Prompts: what the policy is asked, with the other columns of the row for the rewards to look at.

Files may come from strangers, so what they take is bounded (see `prompt_files`) and every row is
checked; bad rows are counted and reported together, by line number, instead of being skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import PromptError, shorten
from .prompt_files import READERS, BadRowError, Row, read_rows

ROLES = ("system", "user", "assistant")
MAX_ROWS = 500_000
MAX_PROMPT_CHARACTERS = 100_000
REPORTED_ROWS = 3
MAX_BAD_ROWS = 100  # then the rest of the file is not read


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        messages: (role, content) pairs; the last one is what the policy answers.
        fields: All other columns of the row, by name, as the file gave them.
        line: Line of the file at which the row starts, from 1; 0 when it came from no file.
    """

    messages: tuple[tuple[str, str], ...]
    fields: Mapping[str, object] = field(default_factory=dict, hash=False)
    line: int = 0

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


def load_prompts(
    path: str | Path, *, prompt_column: str = "prompt", system: str = "", limit: int = 0
) -> tuple[Prompt, ...]:
    """Return the prompts of a JSONL, CSV or TXT file, in order.

    Args:
        path: `.jsonl`: one JSON object a line. `.csv`: commas, the first row names the columns.
            `.txt`: each non-empty line is a prompt. UTF-8, with or without a byte order mark.
        prompt_column: Which column holds the prompt: a text, or a list of {"role", "content"}
            messages that ends with the user's. Not used by `.txt`.
        system: System message for every prompt that brings none of its own.
        limit: Keep only the first so many prompts; 0 keeps all. The whole file is checked all the
            same.

    Raises:
        PromptError: The file cannot be read, holds no prompt, or has bad rows.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in READERS:
        raise PromptError(
            f"A prompt file must end in .jsonl, .csv or .txt. Found {shorten(path.name)}."
        )
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise PromptError(
            f"`limit` must be 0 (all) or a number of prompts. Found {shorten(limit)}."
        )
    if len(system) > MAX_PROMPT_CHARACTERS:
        raise PromptError(
            f"`system` may have {MAX_PROMPT_CHARACTERS} characters. Found {len(system)}."
        )
    column = "prompt" if kind == ".txt" else prompt_column
    prompts = _collect(read_rows(path), path.name, column, system)
    return tuple(prompts[:limit] if limit else prompts)


def _collect(rows: Iterator[tuple[int, Row]], name: str, column: str, system: str) -> list[Prompt]:
    """Return the prompts of all rows; bad rows are reported together."""
    prompts, problems, bad = [], [], 0
    for line, row in rows:
        if len(prompts) + bad >= MAX_ROWS:
            raise PromptError(f"{shorten(name)} has more than {MAX_ROWS} rows. Split the file.")
        found = _read_row(row, column, system, line)
        if isinstance(found, Prompt):
            prompts.append(found)
            continue
        bad += 1
        if len(problems) < REPORTED_ROWS:
            problems.append(f"line {line}: {found}")
        if bad > MAX_BAD_ROWS:
            break
    if bad:
        shown = f"more than {MAX_BAD_ROWS}" if bad > MAX_BAD_ROWS else str(bad)
        count = "1 bad row" if bad == 1 else f"{shown} bad rows"
        more = "; ..." if bad > len(problems) else ""
        raise PromptError(f"{count} in {shorten(name)}: {'; '.join(problems)}{more}")
    if not prompts:
        raise PromptError(f"{shorten(name)} holds no prompt. Add at least one row.")
    return prompts


def _read_row(row: Row, column: str, system: str, line: int) -> Prompt | BadRowError:
    if isinstance(row, BadRowError):
        return row
    try:
        return _to_prompt(row, column, system, line)
    except BadRowError as error:
        return error.alone()


def _to_prompt(row: Mapping[str, object], column: str, system: str, line: int) -> Prompt:
    if column not in row:
        columns = ", ".join(map(repr, row)) or "none"
        raise BadRowError(f"no column {shorten(column)}; columns found: {_cut(columns)}")
    value = row[column]
    fields = {name: cell for name, cell in row.items() if name != column}
    if isinstance(value, list):
        messages = tuple(_to_message(item) for item in value)
    elif isinstance(value, str):
        messages = (("user", value),)
    else:
        raise BadRowError(
            f"column {shorten(column)} must be a text or a list of messages. Found {shorten(value)}"
        )
    _check_messages(messages, column)
    if system and messages[0][0] != "system":
        messages = (("system", system), *messages)
    return Prompt(messages, fields, line)


def _cut(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"


def _to_message(item: object) -> tuple[str, str]:
    if not isinstance(item, dict) or not isinstance(item.get("content"), str):
        raise BadRowError(
            f'a message must be {{"role": ..., "content": text}}. Found {shorten(item)}'
        )
    if item.get("role") not in ROLES:
        raise BadRowError(
            f"role must be one of {', '.join(ROLES)}. Found {shorten(item.get('role'))}"
        )
    return item["role"], item["content"]


def _check_messages(messages: tuple[tuple[str, str], ...], column: str) -> None:
    roles = [role for role, _ in messages]
    if not messages or not messages[-1][1].strip():
        raise BadRowError(f"column {shorten(column)} is empty")
    if roles[-1] != "user":
        raise BadRowError(f"the last message must be the user's. Found role {roles[-1]!r}")
    if "system" in roles[1:]:
        raise BadRowError("a system message must be the first")
    size = sum(len(content) for _, content in messages)
    if size > MAX_PROMPT_CHARACTERS:
        raise BadRowError(
            f"the prompt has {size} characters; at most {MAX_PROMPT_CHARACTERS} are allowed"
        )
