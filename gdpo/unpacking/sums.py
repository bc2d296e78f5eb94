"""Sums of GGUF files: a run goes on only with the model, tokenizer and template it began with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ..plain_files import open_plain
from .header import Header

# Of each end of a file: larger than most headers, so that weights are among it.
_SAMPLE_BYTES = 16 * 2**20
_SHOWN = 16  # hexadecimal digits
_TEMPLATES = "tokenizer.chat_template"


def digest_parts(parts: Sequence[Header]) -> str:
    """Return a sum of both ends of each file, whatever its name."""
    digest = hashlib.sha256(b"GGUF")
    for part in parts:
        size = part.path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with open_plain(part.path) as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def digest_words(header: Header) -> dict[str, str]:
    """Sums of what turns prompts into tokens: the vocabulary with its settings, and the chat templates."""
    keys = sorted(key for key in header.entries if key.startswith("tokenizer."))
    parts = {
        "tokenizer": [key for key in keys if not key.startswith(_TEMPLATES)],
        "chat_template": [key for key in keys if key.startswith(_TEMPLATES)],
    }
    return {
        name: hashlib.sha256(b"".join(map(header.raw, own))).hexdigest()[:_SHOWN]
        for name, own in parts.items()
        if own
    }
