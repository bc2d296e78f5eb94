"""Finds the prompt in a row: in the column that was named, in a chat, or in a column with one of the usual names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import shorten
from .values import BadRowError

ROLES = ("system", "user", "assistant")
REFERENCE = "reference"
# Whole conversations: what the assistant says at their end is no prompt.
_CHATS = ("messages", "conversations")
_NAMES = ("prompt", "question", "instruction", "problem", "query", "text")
_INPUT = "input"  # beside an instruction
# ShareGPT's names of who speaks.
_SPEAKERS = {
    **{role: role for role in ROLES},
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}

Messages = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Column:
    """Where the prompts of a file are.

    Attributes:
        name: Name of the column.
        beside: Name of a second column whose text is added; "" if none.
        found: Whether it was found, where the column that was named is absent.
    """

    name: str
    beside: str = ""
    found: bool = False


def choose_column(row: Mapping[str, object], wanted: str) -> Column:
    """Return where the prompt of a row is; the column that was wanted, if it is there or nothing else is."""
    if wanted in row:
        return Column(wanted)
    by_name = {name.strip().casefold(): name for name in reversed(list(row))}
    for usual in (*_CHATS, *_NAMES):
        name = by_name.get(usual)
        if name is None or not isinstance(row[name], list if usual in _CHATS else (str, list)):
            continue
        beside = by_name.get(_INPUT) if usual == "instruction" else None
        return Column(name, beside or "", found=True)
    return Column(wanted)


def is_known(names: Iterable[str], wanted: str) -> bool:
    """Tell whether one of the names is that of a column with prompts."""
    usual = {*_CHATS, *_NAMES}
    return any(name == wanted or name.strip().casefold() in usual for name in names)


def read_prompt(row: Mapping[str, object], column: Column) -> tuple[Messages, dict[str, object]]:
    """Return the messages of a row's prompt, and its other columns.

    Raises:
        BadRowError: The row has no such column, or something else in it.
    """
    name, value = column.name, row.get(column.name)
    if name not in row:
        columns = ", ".join(map(repr, row)) or "none"
        raise BadRowError(f"no column {shorten(name)}; columns found: {_cut(columns)}")
    fields = {key: cell for key, cell in row.items() if key not in (name, column.beside)}
    if isinstance(value, str):
        return (("user", _joined(value, row.get(column.beside), column)),), fields
    if not isinstance(value, list):
        raise BadRowError(
            f"column {shorten(name)} must be a text or a list of messages. Found {shorten(value)}"
        )
    messages = tuple(_to_message(item) for item in value)
    if name.strip().casefold() in _CHATS and messages and messages[-1][0] == "assistant":
        fields.setdefault(REFERENCE, messages[-1][1])
        messages = messages[:-1]
    return messages, fields


def describe(column: Column, wanted: str, name: str, *, referred: bool) -> str:
    """Return the notice that the prompts come from another column than the one that was named.

    Args:
        column: The column.
        wanted: The one that was named.
        name: The file's name.
        referred: Whether what the assistant said last became a reference.
    """
    beside = f" and {shorten(column.beside)}" if column.beside else ""
    reference = f"; the assistant's last message is the field '{REFERENCE}'" if referred else ""
    return (
        f"{shorten(name)} has no column {shorten(wanted)}: the prompts are taken from "
        f"{shorten(column.name)}{beside}{reference}."
    )


def _joined(text: str, beside: object, column: Column) -> str:
    if beside in (None, ""):
        return text
    if not isinstance(beside, str):
        raise BadRowError(
            f"column {shorten(column.beside)} must be a text. Found {shorten(beside)}"
        )
    return f"{text}\n\n{beside}"


def _cut(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"


def _to_message(item: object) -> tuple[str, str]:
    if isinstance(item, dict) and "from" in item and "role" not in item:
        return _from_sharegpt(item)
    if not isinstance(item, dict) or not isinstance(item.get("content"), str):
        raise BadRowError(
            f'a message must be {{"role": ..., "content": text}}. Found {shorten(item)}'
        )
    if item.get("role") not in ROLES:
        raise BadRowError(
            f"role must be one of {', '.join(ROLES)}. Found {shorten(item.get('role'))}"
        )
    return item["role"], item["content"]


def _from_sharegpt(item: Mapping[str, object]) -> tuple[str, str]:
    speaker, text = item.get("from"), item.get("value")
    if not isinstance(text, str):
        raise BadRowError(
            f'a message must be {{"from": ..., "value": text}}. Found {shorten(item)}'
        )
    role = _SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise BadRowError(f"`from` must be one of {', '.join(_SPEAKERS)}. Found {shorten(speaker)}")
    return role, text
