"""Prompts: what the policy is asked, with the other columns of the row for the rewards to look at.

Files may come from strangers, so their size is bounded before they are read and every row is
checked; bad rows are collected and reported together, by line number, instead of being skipped.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import PromptError, shorten

ROLES = ("system", "user", "assistant")
# JSON may take some twenty times its size in memory, so this bounds a file to a bit over 1 GB.
MAX_FILE_BYTES = 64 * 2**20
MAX_ROWS = 500_000
MAX_ROW_CHARACTERS = 1_000_000
MAX_PROMPT_CHARACTERS = 100_000
REPORTED_ROWS = 3


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        messages: (role, content) pairs; the last one is what the policy answers.
        fields: All other columns of the row, by name, as the file gave them.
        line: Where the row starts in its file, from 1; 0 when it came from no file.
    """

    messages: tuple[tuple[str, str], ...]
    fields: Mapping[str, object] = field(default_factory=dict, hash=False)
    line: int = 0

    @property
    def text(self) -> str:
        """The content of the last message."""
        return self.messages[-1][1]


class _BadRowError(Exception):
    """One row cannot be used; the message says why, without file and line."""


def make_prompt(
    text: str, *, system: str = "", fields: Mapping[str, object] | None = None, line: int = 0
) -> Prompt:
    """A prompt of one user message, after a system message if `system` is not empty."""
    messages = ((("system", system),) if system else ()) + (("user", text),)
    return Prompt(messages, dict(fields or {}), line)


def as_prompts(prompts: Sequence[Prompt | str]) -> tuple[Prompt, ...]:
    """The prompts, with each plain text as a user's message.

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
    """The prompts of a JSONL, CSV or TXT file, in order.

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
    readers = {".jsonl": _jsonl_rows, ".csv": _csv_rows, ".txt": _txt_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
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
    column = "prompt" if reader is _txt_rows else prompt_column
    prompts, problems, bad = [], [], 0
    for line, row in reader(_read_text(path), path.name):
        try:
            prompts.append(_to_prompt(row, column, system, line))
        except _BadRowError as error:
            bad += 1
            if len(problems) < REPORTED_ROWS:
                problems.append(f"line {line}: {error}")
        if len(prompts) + bad > MAX_ROWS:
            raise PromptError(
                f"{shorten(path.name)} has more than {MAX_ROWS} rows. Split the file."
            )
    if bad:
        rows = "1 bad row" if bad == 1 else f"{bad} bad rows"
        more = "; ..." if bad > len(problems) else ""
        raise PromptError(f"{rows} in {shorten(path.name)}: {'; '.join(problems)}{more}")
    if not prompts:
        raise PromptError(f"{shorten(path.name)} holds no prompt. Add at least one row.")
    return tuple(prompts[:limit] if limit else prompts)


def _read_text(path: Path) -> str:
    """The whole file as text, all line ends alike."""
    if not path.is_file():
        raise PromptError(f"No prompt file at {shorten(str(path), 300)}. Check the name.")
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PromptError(f"{shorten(path.name)} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_FILE_BYTES:
        raise PromptError(
            f"{shorten(path.name)} has more than {MAX_FILE_BYTES // 2**20} MiB. Split the file."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptError(
            f"{shorten(path.name)} is not UTF-8 at line {line}. Save the file as UTF-8."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


# A row that a reader could not even take apart travels as its _BadRowError, so that one place
# collects them all.
Row = Mapping[str, object] | _BadRowError


def _txt_rows(text: str, _name: str) -> Iterator[tuple[int, Row]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            yield line, {"prompt": content.strip()}


def _jsonl_rows(text: str, _name: str) -> Iterator[tuple[int, Row]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            yield line, _parse_json_row(content)


def _parse_json_row(content: str) -> Row:
    if len(content) > MAX_ROW_CHARACTERS:
        return _BadRowError(f"longer than {MAX_ROW_CHARACTERS} characters")
    try:
        row = json.loads(content, parse_constant=_refuse_constant, parse_float=_finite_float)
        if "\\u" in content:
            # Half a surrogate pair can be written as an escape, but no tokenizer or file can take
            # it.
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except _BadRowError as error:
        return error
    except json.JSONDecodeError as error:
        return _BadRowError(f"not valid JSON ({error.msg} at column {error.colno})")
    except UnicodeEncodeError:
        return _BadRowError("holds half of a surrogate pair, which is not text")
    except RecursionError:
        return _BadRowError("nested too deeply")
    except ValueError as error:
        return _BadRowError(f"not usable ({error})")
    if not isinstance(row, dict):
        return _BadRowError(f'must be a JSON object like {{"prompt": "..."}}. Found {shorten(row)}')
    return row


def _refuse_constant(name: str) -> float:
    raise _BadRowError(f"{name} is not a JSON number")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _BadRowError(f"the number {shorten(digits, 30)} is too large")
    return value


def _csv_rows(text: str, name: str) -> Iterator[tuple[int, Row]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1  # A quoted cell may span lines; a row is named by its first.
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # The reader cannot tell where the broken row ends, so what follows would be guesswork.
            yield line, _BadRowError(f"not valid CSV ({error}); the rest of the file was not read")
            return
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if len(set(header)) < len(header):
                raise PromptError(f"{shorten(name)} names a column twice: {shorten(header)}.")
        elif len(cells) != len(header):
            yield (
                line,
                _BadRowError(f"the header names {len(header)} columns, the row has {len(cells)}"),
            )
        else:
            yield line, dict(zip(header, cells, strict=True))


def _to_prompt(row: Row, column: str, system: str, line: int) -> Prompt:
    if isinstance(row, _BadRowError):
        raise row
    if column not in row:
        columns = ", ".join(map(repr, row)) or "none"
        raise _BadRowError(f"no column {shorten(column)}; columns found: {_cut(columns)}")
    value = row[column]
    fields = {name: cell for name, cell in row.items() if name != column}
    if isinstance(value, list):
        messages = tuple(_to_message(item) for item in value)
    elif isinstance(value, str):
        messages = (("user", value),)
    else:
        raise _BadRowError(
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
        raise _BadRowError(
            f'a message must be {{"role": ..., "content": text}}. Found {shorten(item)}'
        )
    if item.get("role") not in ROLES:
        raise _BadRowError(
            f"role must be one of {', '.join(ROLES)}. Found {shorten(item.get('role'))}"
        )
    return item["role"], item["content"]


def _check_messages(messages: tuple[tuple[str, str], ...], column: str) -> None:
    roles = [role for role, _ in messages]
    if not messages or not messages[-1][1].strip():
        raise _BadRowError(f"column {shorten(column)} is empty")
    if roles[-1] != "user":
        raise _BadRowError(f"the last message must be the user's. Found role {roles[-1]!r}")
    if "system" in roles[1:]:
        raise _BadRowError("a system message must be the first")
    size = sum(len(content) for _, content in messages)
    if size > MAX_PROMPT_CHARACTERS:
        raise _BadRowError(
            f"the prompt has {size} characters; at most {MAX_PROMPT_CHARACTERS} are allowed"
        )
