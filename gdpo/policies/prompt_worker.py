"""Makes tokens of prompts with a stranger's tokenizer and chat template, as a program that stays.

Both are programs of a kind: a few lines of either can ask for any amount of memory and time, in native code that
nobody can interrupt. So they are used here, where that costs nothing but this process. Each line from the parent is
a request, and is answered with one line on the standard output; a failure is {"error": ...}.

It knows transformers without torch, which starts in half the time and takes a quarter of the memory.
"""

from __future__ import annotations

import json
import os
import queue
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from . import rendering
from .decoding_checks import RefusedError, check_decoding
from .limited_rendering import render_all, render_limited
from .tokenizer_class import load_tokenizer

# `workers/start.py` has put them among these names.
lines: queue.SimpleQueue[bytes] = globals()["lines"]
limited: Callable[[int, int], AbstractContextManager[None]] = globals()["limited"]

_IDLE_SECONDS = 600.0
_MAX_REPLY = 64 * 2**20
_KEPT = 2  # tokenizers
_TOGETHER = 64  # conversations that are rendered under one limit
_PROBES = (
    [["user", "Hello! How can you help me today? 123"]],
    [["system", "Be brief."], ["user", "a"], ["assistant", "b"], ["user", "c"]],
)

_tokenizers: dict[str, Any] = {}


class FailureError(Exception):
    """Something failed, which is the cause of this: an exception, or a panic of native code, which is none."""

    def __init__(self, **where: object) -> None:
        """Say where it was, for the reply."""
        super().__init__()
        self.where = where


def look(request: dict) -> dict:
    """Read the configuration, load the tokenizer, and try it with its chat template on a few prompts."""
    steps = {"configuration": _read_config, "tokenizer": _load, "chat template": _try_template}
    for part, step in steps.items():
        try:
            step(request)
        except BaseException as error:
            raise FailureError(part=part) from error
    return {}


def _read_config(request: dict) -> None:
    from transformers import AutoConfig

    AutoConfig.from_pretrained(request["folder"], local_files_only=True, trust_remote_code=False)


def _load(request: dict) -> None:
    while len(_tokenizers) >= _KEPT:
        del _tokenizers[next(iter(_tokenizers))]
    tokenizer = load_tokenizer(request["folder"])
    check_decoding(tokenizer)
    _tokenizers[request["key"]] = tokenizer


def _try_template(request: dict) -> None:
    from jinja2 import TemplateError

    tokenizer = _tokenizers[request["key"]]
    for messages in _PROBES:
        try:
            text = render_limited(tokenizer, messages, limited)
        except TemplateError:  # many templates refuse roles, or orders of them
            text = messages[-1][1]
        rendering.encode(tokenizer, text)


def encode(request: dict) -> dict:
    """Return text and token ids of each conversation; texts are taken as they are.

    A tokenizer that was not looked at before, or so long ago that it has been forgotten, is unknown.
    """
    tokenizer = _tokenizers.get(request["key"])
    if tokenizer is None:
        return {"unknown": True}
    made, size = [], 0
    for index, messages in enumerate(request["conversations"]):
        try:
            text = (
                messages
                if isinstance(messages, str)
                else render_limited(tokenizer, messages, limited)
            )
            ids = rendering.encode(tokenizer, text)
        except BaseException as error:
            raise FailureError(index=index) from error
        size += len(text) + 8 * len(ids)
        if size > _MAX_REPLY:
            raise FailureError(index=index) from RefusedError(f"texts take over {_MAX_REPLY} bytes")
        made.append([text, ids])
    return {"made": made}


def measure(request: dict) -> dict:
    """Return of each conversation how many tokens it becomes, or why it becomes none.

    A tokenizer that was not looked at before, or so long ago that it has been forgotten, is unknown.
    """
    tokenizer = _tokenizers.get(request["key"])
    if tokenizer is None:
        return {"unknown": True}
    conversations, made = request["conversations"], []
    try:
        for first in range(0, len(conversations), _TOGETHER):
            part = conversations[first : first + _TOGETHER]
            rendered = render_all(tokenizer, part, limited, _describe)
            made += rendering.count_all(tokenizer, rendered, _describe)
    except BaseException as error:
        raise FailureError from error
    return {"made": made}


def _describe(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError):
        return "it takes too much memory"
    return (
        text
        if isinstance(error, (RefusedError, TimeoutError))
        else f"{type(error).__name__}: {text}"
    )


COMMANDS = {"look": look, "encode": encode, "measure": measure}


def answer(request: dict) -> tuple[dict, bool]:
    """Return the reply, and whether this process is to end: native code that panicked may hold locks for ever."""
    try:
        with limited(request["memory"], request["seconds"]):
            return COMMANDS[request["command"]](request), False
    except FailureError as failure:
        cause = failure.__cause__ or failure
        return {**failure.where, "error": _describe(cause)}, not isinstance(cause, Exception)


def main() -> int:
    """Answer requests until none has come for a while."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)  # what libraries print is no reply
    sys.modules["torch"] = None  # type: ignore[assignment]
    while True:
        try:
            request = json.loads(lines.get(timeout=_IDLE_SECONDS))
        except queue.Empty:
            return 0
        reply, broken = answer(request)
        replies.write(json.dumps({**reply, "last": broken}) + "\n")
        replies.flush()
        if broken:
            return 1


if __name__ == "__main__":
    sys.exit(main())
