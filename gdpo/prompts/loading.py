"""Reads the prompts of a file.

Files may come from strangers, so what they take is bounded (see `files`) and every row is
checked; bad rows are counted and reported together, by line number, instead of being skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import PromptError, shorten
from ..progress import Progress
from .columns import REFERENCE, Column, choose_column, describe, read_prompt
from .files import read_rows
from .kinds import find_kind
from .prompt import Origin, Prompt
from .values import BadRowError, Row

MAX_ROWS = 500_000
MAX_PROMPT_CHARACTERS = 100_000
REPORTED_ROWS = 3
MAX_BAD_ROWS = 100  # then the rest of the file is not read


def load_prompts(
    path: str | Path,
    *,
    prompt_column: str = "prompt",
    system: str = "",
    limit: int = 0,
    progress: Progress | None = None,
) -> tuple[Prompt, ...]:
    """Return the prompts of a file, in order.

    Args:
        path: JSON lines, a JSON array, a JSON object with one list of rows, CSV (comma, semicolon or tab;
            the first row names the columns), Parquet (with pyarrow), or plain text, of which each non-empty
            line is a prompt. The content tells which, whatever the ending. Text is UTF-8, with or without a
            byte order mark.
        prompt_column: Which column holds the prompt: a text, or a list of {"role", "content"}
            messages that ends with the user's. Not used by plain text. Where it is absent, a column with one
            of the usual names is taken, and a notice says so.
        system: System message for every prompt that brings none of its own.
        limit: Keep only the first so many prompts; 0 keeps all. The whole file is checked all the
            same.
        progress: Receives the notices; None: they are logged.

    Raises:
        PromptError: The file cannot be read, holds no prompt, or has bad rows.
    """
    path = Path(path)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise PromptError(
            f"`limit` must be 0 (all) or a number of prompts. Found {shorten(limit)}."
        )
    if len(system) > MAX_PROMPT_CHARACTERS:
        raise PromptError(
            f"`system` may have {MAX_PROMPT_CHARACTERS} characters. Found {len(system)}."
        )
    kind = find_kind(path, prompt_column)
    wanted = "prompt" if kind.name == "plain text" else prompt_column
    collected = _Collected(path.name, wanted, system, "line" if kind.has_lines else "row")
    for line, row in read_rows(path, kind):
        if not collected.add(line, row):
            break
    prompts = collected.finished()
    tell = (progress or Progress()).notice
    for text in filter(None, (kind.notice(path), collected.notice())):
        tell(text)
    return tuple(prompts[:limit] if limit else prompts)


class _Collected:
    """Collects the prompts of a file's rows; bad rows are reported together."""

    def __init__(self, name: str, wanted: str, system: str, unit: str) -> None:
        self._name, self._wanted, self._system = name, wanted, system
        self._origin = Origin(name, unit)
        self._column: Column | None = None
        self._prompts: list[Prompt] = []
        self._problems: list[str] = []
        self._bad = 0
        self._referred = False

    def add(self, line: int, row: Row) -> bool:
        """Take up a row; False where there are so many bad ones that the rest need not be read."""
        if len(self._prompts) + self._bad >= MAX_ROWS:
            raise PromptError(
                f"{shorten(self._name)} has more than {MAX_ROWS} rows. Split the file."
            )
        found = self._read(row, line)
        if isinstance(found, Prompt):
            self._prompts.append(found)
            return True
        self._bad += 1
        if len(self._problems) < REPORTED_ROWS:
            self._problems.append(f"{self._origin.unit} {line}: {found}")
        return self._bad <= MAX_BAD_ROWS

    def finished(self) -> list[Prompt]:
        """Return all prompts.

        Raises:
            PromptError: There are bad rows, or none.
        """
        bad, name = self._bad, shorten(self._name)
        if bad:
            shown = f"more than {MAX_BAD_ROWS}" if bad > MAX_BAD_ROWS else str(bad)
            count = "1 bad row" if bad == 1 else f"{shown} bad rows"
            more = "; ..." if bad > len(self._problems) else ""
            raise PromptError(f"{count} in {name}: {'; '.join(self._problems)}{more}")
        if not self._prompts:
            raise PromptError(f"{name} holds no prompt. Add at least one row.")
        return self._prompts

    def notice(self) -> str:
        """Return what to tell where the prompts come from another column; "" where they do not."""
        if self._column is None or not self._column.found:
            return ""
        return describe(self._column, self._wanted, self._name, referred=self._referred)

    def _read(self, row: Row, line: int) -> Prompt | BadRowError:
        if isinstance(row, BadRowError):
            return row
        try:
            # The first row decides: a later one without that column is a bad one.
            self._column = self._column or choose_column(row, self._wanted)
            prompt = _to_prompt(row, self._column, self._system, line, self._origin)
            self._referred |= REFERENCE in prompt.fields and REFERENCE not in row
            return prompt
        except BadRowError as error:
            return error.alone()


def _to_prompt(
    row: Mapping[str, object], column: Column, system: str, line: int, origin: Origin
) -> Prompt:
    messages, fields = read_prompt(row, column)
    _check_messages(messages, column.name)
    if system and messages[0][0] != "system":
        messages = (("system", system), *messages)
    return Prompt(messages, fields, line, origin)


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
