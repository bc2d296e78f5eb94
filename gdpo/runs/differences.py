"""Why a run does not go on: which setting, file or row is another one now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from ..errors import shorten
from ..policies.base import Base
from ..prompts import Prompt

# The entry of an identity that tells prompts apart one by one; the identity itself has a sum of all of them.
ROWS = "rows"
# What older versions did not write; where it is absent nothing can be said about it.
_LATER = {"files"}
_DIGITS = 16  # hexadecimal digits of a row's sum
# Older versions wrote shorter sums, and of so many rows only.
OLD_DIGITS, OLD_ROWS = 8, 20_000


def digest_rows(prompts: Sequence[Prompt]) -> str:
    """Short sums of the prompts, by which one that changed can be named; with spaces between them."""
    return sum_up(prompts)[1]


def digest_prompts(prompts: Sequence[Prompt]) -> str:
    """The SHA-256 of prompts with their fields."""
    return sum_up(prompts)[0]


def sum_up(prompts: Sequence[Prompt]) -> tuple[str, str]:
    """Both sums, of all prompts together and of each; no more than one of them is written out at a time."""
    whole, rows = hashlib.sha256(b"["), []
    for number, prompt in enumerate(prompts):
        content = [prompt.messages, dict(prompt.fields)]
        text = json.dumps(content, sort_keys=True, default=str)
        whole.update(f", {text}".encode() if number else text.encode())
        rows.append(hashlib.sha256(f"[{text}]".encode()).hexdigest()[:_DIGITS])
    whole.update(b"]")
    return whole.hexdigest(), " ".join(rows)


def first_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What is another one now, as a noun phrase; empty where two identities are equal.

    Args:
        old: Identity from a `run.json`.
        new: From `identify`.
    """
    new = json.loads(json.dumps(new))
    before, now = {**old, **_dict(old.get("settings"))}, {**new, **new["settings"]}
    for key, value in now.items():
        if key in {"settings", ROWS} or (key in _LATER and key not in before):
            continue
        if before.get(key) != value:
            there, here = _dict(old.get(ROWS)).get(key), _dict(new.get(ROWS)).get(key)
            where = _row(there, here) if there and here else _place(before.get(key), value)
            return f"another `{key}` ({where})"
    return ""


def base_difference(old: dict[str, Any], base: Base) -> str:
    """In what a base is not that of a run, as a noun phrase; empty if it is.

    Args:
        old: Identity from a `run.json`.
        base: Loaded now.
    """
    same = {key: old.get(key) for key in ("weights", "files") if key in old}
    return first_difference({**same, "settings": {}}, {**describe_base(base), "settings": {}})


def describe_base(base: Base) -> dict[str, Any]:
    """What an identity says of the content of the base's files."""
    return {"weights": base.digest, "files": dict(base.texts)}


def _row(old: str, new: str) -> str:
    """The first row that is another one, counted from 1."""
    before, now = str(old).split(), new.split()
    digits = min(len(row) for row in (*before[:1], *now[:1]))
    before, now = [row[:digits] for row in before], [row[:digits] for row in now]
    pairs = enumerate(zip(before, now, strict=False), 1)
    first = next((number for number, (a, b) in pairs if a != b), None)
    if first is not None:
        return f"row {first} is another one"
    if len(before) == OLD_ROWS and digits == OLD_DIGITS:
        return f"a row after the first {OLD_ROWS} is another one"
    return f"{len(before)} rows there, {len(now)} here"


def _place(old: Any, new: Any, path: str = "") -> str:
    """The innermost value that is another one, and both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        key = next(key for key in {**new, **old} if old.get(key) != new.get(key))
        return _place(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        place = next(place for place, one in enumerate(old) if one != new[place])
        name = new[place].get("name", place + 1) if isinstance(new[place], dict) else place + 1
        return _place(old[place], new[place], f"{path}.{name}" if path else str(name))
    values = f"{shorten(old, 40)} there, {shorten(new, 40)} here"
    return f"{path}: {values}" if path else values


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
