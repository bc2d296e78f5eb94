"""Whether a stranger's tokenizer may make texts of tokens; the prompt worker asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

# Honest tokens have up to some hundred characters, and honest decoders make each a few characters longer.
_MAX_TOKEN, _MAX_GROWTH = 10_000, 16


class RefusedError(Exception):
    """The model's files cannot be used; the message says what they did."""


def check_decoding(tokenizer: Any) -> None:
    """Refuse a tokenizer whose tokens are long texts, or whose decoder multiplies texts or searches by patterns.

    Completions are decoded in the process that trains, and nobody knows beforehand what a model will say.

    Raises:
        RefusedError: It is such a one.
    """
    longest = max(tokenizer.get_vocab(), key=len, default="")
    if len(longest) > _MAX_TOKEN:
        raise RefusedError(f"it has a token of {len(longest)} characters")
    if not getattr(tokenizer, "is_fast", False):
        return
    decoder = json.loads(tokenizer.backend_tokenizer.to_str())["decoder"]
    growth = 1.0
    for part in _parts(decoder):
        if part.get("type") != "Replace":
            continue
        pattern, content = part["pattern"].get("String"), part["content"]
        if not pattern:
            raise RefusedError(f"its decoder searches for {part['pattern']}")
        growth *= max(1.0, len(content) / len(pattern))
    if growth > _MAX_GROWTH:
        raise RefusedError(f"its decoder makes texts {growth:g} times as long")


def _parts(decoder: Any) -> Iterator[dict]:
    if isinstance(decoder, dict):
        yield decoder
        for inner in decoder.get("decoders", ()):
            yield from _parts(inner)
