"""Renders messages by a stranger's chat template, in the prompt worker, under a limit of memory and time for each."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from . import rendering
from .decoding_checks import RefusedError

# Honest templates take a millisecond or two, and kilobytes. What cannot be interrupted is ended.
_RENDER_SECONDS, _KILL_SECONDS = 1.0, 2
_RENDER_BYTES = 256 * 2**20
# Characters that a template may add to a prompt, and by what factor it may lengthen it.
_ADDED, _FACTOR = 200_000, 16

# Gives a block so many bytes and seconds; see `workers/start.py`.
Limit = Callable[[int, int], AbstractContextManager[None]]
Messages = Sequence[Sequence[str]]


def render_all(
    tokenizer: Any,
    conversations: Sequence[Messages],
    limit: Limit,
    explain: Callable[[Exception], str],
) -> list[tuple[str, str]]:
    """Return of each conversation its text, or why there is none, as pairs of which one is empty.

    All are rendered under the limit of one, since to set it takes as long as to render one or two of them.

    Args:
        tokenizer: A stranger's.
        conversations: So few that honest templates need a fraction of the limit for all of them.
        limit: Limits a block.
        explain: Function that puts an error into words.
    """
    try:
        with limit(_RENDER_BYTES, _KILL_SECONDS), _timed():
            texts = [rendering.render(tokenizer, messages) for messages in conversations]
        return [(_checked(text, one), "") for text, one in zip(texts, conversations, strict=True)]
    except Exception:  # noqa: BLE001  of many classes; alone, the ones that it is about are told from the others
        return [_render_alone(tokenizer, one, limit, explain) for one in conversations]


def render_limited(tokenizer: Any, messages: Messages, limit: Limit) -> str:
    """Return the text of one conversation.

    Raises:
        RefusedError: It is far longer than what it was made of.
        TimeoutError, MemoryError: It took too much.
        Exception: The template refuses it, as what it likes.
    """
    with limit(_RENDER_BYTES, _KILL_SECONDS), _timed():
        text = rendering.render(tokenizer, messages)
    return _checked(text, messages)


def _render_alone(
    tokenizer: Any, messages: Messages, limit: Limit, explain: Callable[[Exception], str]
) -> tuple[str, str]:
    try:
        return render_limited(tokenizer, messages, limit), ""
    except Exception as error:  # noqa: BLE001  a template raises what it wants
        return "", explain(error)


def _checked(text: str, messages: Messages) -> str:
    given = sum(len(content) for _, content in messages)
    if len(text) > _ADDED + _FACTOR * given:
        raise RefusedError(f"the chat template makes {len(text)} characters of {given}")
    return text


@contextmanager
def _timed() -> Iterator[None]:
    """Raise TimeoutError in a block that takes too long, where there are timers; elsewhere the parent ends it."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise TimeoutError(f"it took more than {_RENDER_SECONDS:g} s")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, _RENDER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
