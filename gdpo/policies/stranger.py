"""Tokenizers of strangers: their prompts become tokens in a worker, under a limit of memory and time.

A tokenizer's files and its chat template are programs of a kind, which can ask for any amount of both. What the worker
has loaded within its limits may be loaded in this process, where its vocabulary is asked and completions are decoded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PolicyError, shorten
from ..plain_files import read_bytes
from ..starter import MODEL_DIR
from ..workers.standing import RefusedError, StandingWorker
from .digest import digest_texts
from .remedies import because

# Python and the libraries are not counted. Loading takes some 16 times the size of the files.
_MEMORY = 512 * 2**20
_MEMORY_PER_BYTE = 24
_LOAD_SECONDS = 120
# Of one request: so many conversations and characters, which take a second or two.
_BATCH, _BATCH_CHARACTERS = 1000, 1_000_000
_ENCODE_SECONDS = 20
_FILES = "gdpo_files"  # attribute of a tokenizer

_worker = StandingWorker(Path(__file__).with_name("prompt_worker.py"))

# A text as it is, or pairs of role and content.
Conversation = str | Sequence[Sequence[str]]


class _Files(NamedTuple):
    """A folder, and a sum of what it says about the model and its tokenizer."""

    folder: str
    key: str


_tried: set[_Files] = set()


def try_files(folder: Path, source: str, poll: Callable[[], None]) -> None:
    """Let the worker read the folder's configuration, tokenizer and template, before this process does.

    Args:
        folder: The model's folder.
        source: The model, for messages.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        PolicyError: They take too much memory or time, or cannot be used.
    """
    if not _is_ours(folder):
        found = _Files(str(folder.absolute()), _key(folder))
        if found not in _tried:
            _look(found, source, poll)
            _tried.add(found)


def _look(files: _Files, source: str, poll: Callable[[], None]) -> None:
    entries = [
        file.stat() for file in Path(files.folder).iterdir() if file.suffix != ".safetensors"
    ]
    memory = _MEMORY + _MEMORY_PER_BYTE * sum(entry.st_size for entry in entries)
    request = {"command": "look", **files._asdict()}
    reply = _ask(request, memory=memory, seconds=_LOAD_SECONDS, poll=poll)
    if "error" in reply:
        part = reply.get("part", "configuration, tokenizer or chat template")
        why = because(reply["error"], Path(files.folder), "get the model's original files")
        raise PolicyError(f"The {part} of {source!r} cannot be loaded{why}.")


def mark(tokenizer: Any, folder: Path) -> None:
    """Note where a stranger's tokenizer came from. One without a note is this pack's or the caller's own."""
    if not _is_ours(folder):
        setattr(tokenizer, _FILES, _Files(str(folder.absolute()), _key(folder)))


def is_strangers(tokenizer: Any) -> bool:
    """Tell whether a tokenizer is to be used in the worker alone."""
    return hasattr(tokenizer, _FILES)


class UnusableError(Exception):
    """A conversation that became no tokens; the message says why."""

    def __init__(self, index: int, reason: str) -> None:
        """Say which one it is, and the reason."""
        super().__init__(reason)
        self.index = index


def make_tokens(
    tokenizer: Any,
    conversations: Sequence[Conversation],
    poll: Callable[[], None],
) -> Iterator[tuple[str, list[int]]]:
    """Yield the text and the token ids of each conversation, by the worker.

    Args:
        tokenizer: A stranger's, see `mark`.
        conversations: Any number.
        poll: Function that is called while the worker works; it may raise to stop.

    Raises:
        UnusableError: One of them takes too much memory or time, or is refused by the template.
    """
    for first, batch in batches(conversations):
        reply = use_worker("encode", tokenizer, batch, poll)
        if "error" in reply:
            raise UnusableError(first + reply.get("index", 0), reply["error"])
        yield from map(tuple, reply["made"])


def use_worker(
    command: str, tokenizer: Any, batch: Sequence[Conversation], poll: Callable[[], None]
) -> dict[str, Any]:
    """Return what the worker makes of a batch by a stranger's tokenizer, which it reads again where it has forgotten it."""
    files: _Files = getattr(tokenizer, _FILES)
    request = {"command": command, **files._asdict(), "conversations": batch}
    reply = _ask(request, memory=_MEMORY, seconds=_ENCODE_SECONDS, poll=poll)
    if reply.get("unknown"):
        _reload(files, poll)
        reply = _ask(request, memory=_MEMORY, seconds=_ENCODE_SECONDS, poll=poll)
    return reply


def _reload(files: _Files, poll: Callable[[], None]) -> None:
    """Let a new worker read the files again, which must still be those of the model in use."""
    try:
        same = _key(Path(files.folder)) == files.key
    except OSError:
        same = False
    if not same:
        raise PolicyError(
            f"The tokenizer in {files.folder!r} has changed since the model was loaded; load the model again."
        )
    _look(files, files.folder, poll)


def _key(folder: Path) -> str:
    sums = {**digest_texts(folder), "config.json": read_bytes(folder / "config.json").hex()}
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()


def batches(conversations: Iterable[Conversation]) -> Iterator[tuple[int, list[Conversation]]]:
    """Yield the conversations in parts, each with the number of its first one."""
    first, batch, size = 0, [], 0
    for index, one in enumerate(conversations):
        batch.append(one)
        size += len(one) if isinstance(one, str) else sum(len(content) for _, content in one)
        if len(batch) == _BATCH or size >= _BATCH_CHARACTERS:
            yield first, batch
            first, batch, size = index + 1, [], 0
    if batch:
        yield first, batch


def _ask(
    request: dict[str, object],
    *,
    memory: int,
    seconds: int,
    poll: Callable[[], None],
) -> dict[str, Any]:
    try:
        return _worker.ask(request, memory=memory, seconds=seconds, poll=poll)
    except RefusedError as error:
        limits = f"{memory // 2**20} MiB of memory or {seconds} s of a processor"
        return {"error": f"it takes more than {limits}: {error}"}
    except OSError as error:
        raise PolicyError(
            f"The process that makes tokens of prompts cannot be started: {shorten(str(error))}; "
            "free memory and space for temporary files, and try again."
        ) from error


def _is_ours(folder: Path) -> bool:
    return folder.resolve() == MODEL_DIR.resolve()
