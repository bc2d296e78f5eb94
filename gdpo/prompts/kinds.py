"""Tells by the content of a prompt file how to read it; its ending counts where the content leaves it open."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import shorten
from .columns import is_known
from .file_bytes import PARQUET, check_bytes
from .json_rows import NotJSONError, Outline, not_json, outline
from .lines import read_head

_HEAD_BYTES = 2**20
_SAMPLE_LINES = 50
_LINES_ENDINGS = frozenset({".jsonl", ".ndjson"})
_BRACKETS = ("{", "[")
_DELIMITERS = (",", ";", "\t")
# A spreadsheet program's own line before the header.
_SEPARATOR = re.compile(r"sep=([,;\t])", re.IGNORECASE)
# Begins as lists of objects do, and hardly ever a text.
_AS_LIST = re.compile(r'\s*(\[\s*\{\s*"[^"\n]*"\s*:|[\[{]\s*\n\s*["{])')
# What each ending promises.
_PROMISED = {
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".txt": "plain text",
    ".parquet": "Parquet",
}


@dataclass(frozen=True)
class Kind:
    """How a file is read.

    Attributes:
        name: "JSON lines", "JSON", "CSV", "plain text" or "Parquet".
        delimiter: Character between the cells of CSV.
        document: Where the rows of JSON are.
    """

    name: str
    delimiter: str = ","
    document: Outline | None = None

    @property
    def has_lines(self) -> bool:
        """Tell whether a row is found by its line."""
        return self.name not in ("JSON", "Parquet")

    def notice(self, path: Path) -> str:
        """Return what to tell where the ending promises something else; "" where it does not."""
        told = self.name
        if self.document is not None and self.document.member is not None:
            told = f"JSON, whose rows are in {shorten(self.document.member)}"
        elif _PROMISED.get(path.suffix.lower()) == self.name:
            return ""
        return f"{shorten(path.name)} is read as {told}."


def find_kind(path: Path, wanted: str) -> Kind:
    """Return how to read a file.

    Args:
        path: The file.
        wanted: The column with the prompts.

    Raises:
        PromptError: The file cannot be read, or holds nothing of the kind; the message names what it is.
    """
    head = read_head(path, _HEAD_BYTES)
    check_bytes(head, path.name)
    if head.startswith(PARQUET):
        return Kind("Parquet")
    text = head.decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if len(head) == _HEAD_BYTES:
        lines = lines[:-1]  # cut off
    sample = [line for line in lines if line.strip()][:_SAMPLE_LINES]
    promised = path.suffix.lower() in {*_LINES_ENDINGS, ".json"}
    found = Kind("JSON lines") if not sample and _wants_lines(path) else None
    if text.lstrip()[:1] in _BRACKETS or (promised and any(map(_seems_json, sample))):
        found = _as_json(path, text, sample, wanted)
    return found or _as_table(path, sample, wanted) or Kind("plain text")


def _wants_lines(path: Path) -> bool:
    """Tell whether a name such as data.jsonl or data.jsonl.txt promises JSON lines."""
    return not _LINES_ENDINGS.isdisjoint(suffix.lower() for suffix in path.suffixes[-2:])


def _as_json(path: Path, text: str, sample: Sequence[str], wanted: str) -> Kind | None:
    """Return how to read a file that seems to be JSON; None where it is not."""
    objects, wants_lines = sum(map(_is_object, sample)), _wants_lines(path)
    if len(sample) > 1 and _is_object(sample[0]) and (wants_lines or objects * 2 > len(sample)):
        return Kind("JSON lines")
    try:
        found = outline(path, lambda row: is_known(row, wanted))
    except NotJSONError as error:
        if wants_lines:
            return Kind("JSON lines")
        is_json = any(suffix.lower() == ".json" for suffix in path.suffixes[-2:])
        if is_json or (error.ended and _AS_LIST.match(text)):
            raise not_json(error, path.name) from error
        return None
    if wants_lines and found.shape == "objects" and found.rows == 1 and len(sample) < 2:
        return Kind("JSON lines")
    return Kind("JSON", document=found) if found.rows or path.suffix.lower() == ".json" else None


def _as_table(path: Path, sample: Sequence[str], wanted: str) -> Kind | None:
    """Return how to read a file of cells; None where it is plain text."""
    ending = path.suffix.lower()
    if sample and (separator := _SEPARATOR.fullmatch(sample[0].strip(" "))):
        return Kind("CSV", separator[1])
    usual = {".csv": ",", ".tsv": "\t"}.get(ending)
    order = sorted(_DELIMITERS, key=lambda one: one != usual)
    for delimiter in order:
        header, agreeing = _header(sample, delimiter)
        if is_known(header, wanted) and (usual == delimiter or (len(header) > 1 and agreeing)):
            return Kind("CSV", delimiter)
    if usual is None:
        return None
    fitting = [one for one in order if len(_header(sample, one)[0]) > 1 and _header(sample, one)[1]]
    return Kind("CSV", fitting[0] if fitting else usual)


def _header(sample: Sequence[str], delimiter: str) -> tuple[list[str], bool]:
    """Return the names in the first row, and whether most of the rows have as many cells."""
    try:
        rows = [
            row for row in csv.reader((f"{line}\n" for line in sample), delimiter=delimiter) if row
        ]
    except csv.Error:
        return [], False
    if not rows:
        return [], False
    alike = sum(len(row) == len(rows[0]) for row in rows[1:])
    return [cell.strip() for cell in rows[0]], alike * 2 > len(rows) - 1


def _is_object(line: str) -> bool:
    return line.lstrip().startswith("{") and _is_json(line.strip().removesuffix(","))


def _seems_json(line: str) -> bool:
    return line.lstrip().startswith(_BRACKETS) or _is_json(line)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
