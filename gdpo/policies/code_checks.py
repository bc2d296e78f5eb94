"""Refuses a model folder whose JSON files name code: libraries would import it, or fetch it from the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import PolicyError, shorten

# Vocabularies and lists of weights name no code, hold any word, and are large.
_NO_NAMES = {"tokenizer.json", "vocab.json", "tekken.json"}
_MAX_JSON_BYTES = 16 * 2**20


def check_code(folder: Path) -> None:
    """Refuse `auto_map` in any JSON file of the folder, and any entry that names one of its Python files.

    Raises:
        PolicyError: The message names the file, the entry and the remedy.
    """
    scripts = {file.relative_to(folder).as_posix() for file in folder.rglob("*.py")}
    for file in sorted(folder.rglob("*.json")):
        if file.name in _NO_NAMES or file.name.endswith(".index.json"):
            continue
        for key, value in _entries(_read(file)):
            if (key == "auto_map" and value) or _is_script(value, scripts):
                raise PolicyError(
                    f"{str(file)!r} names code of the model: {key} {shorten(value)}. Such code is never run; remove "
                    "the entry if transformers knows the architecture by itself, or use another model."
                )


def _is_script(value: object, scripts: set[str]) -> bool:
    """Whether a text names one of `scripts`: by its path, or as `module.Class` with a repository before it or not."""
    if not isinstance(value, str) or not scripts:
        return False
    name = value.rpartition("--")[2].strip().replace("\\", "/")
    while name.startswith("./"):
        name = name[2:]
    module = name.rpartition(".")[0].replace(".", "/")
    return name in scripts or f"{module}.py" in scripts


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, and with each text of a list, of nested JSON; without recursion."""
    parts: list[tuple[str, Any]] = [("", content)]
    while parts:
        key, part = parts.pop()
        yield key, part
        if isinstance(part, dict):
            parts.extend(part.items())
        elif isinstance(part, list):
            parts.extend((key, item) for item in part)


def _read(file: Path) -> Any:
    """The file's content; None of what is no JSON, which no library can read either.

    Raises:
        PolicyError: The file is too large to look through, or no regular file.
    """
    try:
        if not file.is_file():
            raise PolicyError(f"{str(file)!r} is no regular file; get the model's original files.")
        if file.stat().st_size > _MAX_JSON_BYTES:
            raise PolicyError(
                f"{str(file)!r} has more than {_MAX_JSON_BYTES // 2**20} MiB, too much for a model's settings; get "
                "the model's original file."
            )
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
