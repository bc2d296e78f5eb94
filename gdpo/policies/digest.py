"""What a model's folder holds, as sums: a run goes on only with the model, tokenizer and template it began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from ..plain_files import open_plain, read_bytes

# Of each end of a file of weights: larger than its header, so that weights are among it.
_SAMPLE_BYTES = 16 * 2**20
# A tokenizer has tens of megabytes, other files of text far less.
MAX_TEXT_BYTES = 64 * 2**20
# The files that decide which tokens a prompt becomes.
TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tekken.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
_TEMPLATE = "chat_template"
_SHOWN = 16  # hexadecimal digits


def digest_folder(folder: Path) -> str:
    """Tells whether two folders hold the same model: of its configuration, and of samples of its weights.

    Both ends of each file are read, which a changed model always differs in somewhere; reading tens of
    gigabytes at each start would take minutes.
    """
    digest = hashlib.sha256(read_bytes(folder / "config.json", MAX_TEXT_BYTES))
    for file in sorted(folder.glob("*.safetensors")):
        for part in _sampled(file):
            digest.update(part)
    return digest.hexdigest()


def digest_texts(folder: Path) -> dict[str, str]:
    """Sums of what turns prompts into tokens and ends a completion, by the file's name.

    The chat template in `tokenizer_config.json` has an entry of its own, "chat_template".
    """
    names = (*TOKENIZER_FILES, "generation_config.json")
    files = {name: folder / name for name in names if (folder / name).is_file()}
    extra = folder.glob("additional_chat_templates/*.jinja")
    files |= {f"{file.parent.name}/{file.name}": file for file in sorted(extra)}
    found = {name: read_bytes(file, MAX_TEXT_BYTES) for name, file in files.items()}
    found |= _without_template(found.get("tokenizer_config.json"))
    return {name: hashlib.sha256(data).hexdigest()[:_SHOWN] for name, data in found.items()}


def _without_template(config: bytes | None) -> dict[str, bytes]:
    """The tokenizer's configuration and the template in it, which people change alone."""
    try:
        content = json.loads(config or b"")
        template = content.pop(_TEMPLATE, None)
    except (ValueError, RecursionError, AttributeError):
        return {}
    parts = {"tokenizer_config.json": content, _TEMPLATE: template}
    return {
        name: json.dumps(part, sort_keys=True).encode()
        for name, part in parts.items()
        if part is not None
    }


def _sampled(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    yield f"{file.name} {size}".encode()
    with open_plain(file) as stream:
        yield stream.read(_SAMPLE_BYTES)
        stream.seek(max(0, size - _SAMPLE_BYTES))
        yield stream.read(_SAMPLE_BYTES)
