"""How many tokens each of many prompts becomes, without keeping any text: a hundred thousand take some seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..prompts import Prompt
from .rendering import count_all, render
from .stranger import Conversation, UnusableError, batches, is_strangers, use_worker

# Rendered here at a time, so that a host is asked often enough whether to stop.
_TOGETHER = 256


def count_tokens(
    tokenizer: Any, prompts: Sequence[Prompt], *, poll: Callable[[], None] = lambda: None
) -> Iterator[int | str]:
    """Yield of each prompt how many tokens it becomes, or why it becomes none.

    Args:
        tokenizer: The model's tokenizer; a stranger's is used in the worker, which is asked once for a thousand prompts.
        prompts: Any number.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        UnusableError: One of them ends the worker; those after it are not looked at.
        PolicyError: The worker cannot be used.
    """
    conversations = (prompt.messages for prompt in prompts)
    count = _by_worker if is_strangers(tokenizer) else _here
    return count(tokenizer, conversations, poll)


def _by_worker(
    tokenizer: Any, conversations: Iterable[Conversation], poll: Callable[[], None]
) -> Iterator[int | str]:
    for first, batch in batches(conversations):
        reply = use_worker("measure", tokenizer, batch, poll)
        if "error" not in reply:
            yield from reply["made"]
            continue
        # Too much for it together: alone, the one that it is about is told from the others.
        for index, one in enumerate(batch, first):
            reply = use_worker("measure", tokenizer, [one], poll)
            if "error" in reply:
                raise UnusableError(index, reply["error"])
            yield from reply["made"]


def _here(
    tokenizer: Any, conversations: Iterable[Conversation], poll: Callable[[], None]
) -> Iterator[int | str]:
    part: list[tuple[str, str]] = []
    for messages in conversations:
        part.append(_render(tokenizer, messages))
        if len(part) == _TOGETHER:
            poll()
            yield from count_all(tokenizer, part, explain)
            part = []
    poll()
    yield from count_all(tokenizer, part, explain)


def _render(tokenizer: Any, messages: Any) -> tuple[str, str]:
    try:
        return render(tokenizer, messages), ""
    except Exception as error:  # noqa: BLE001  of many classes: a template raises what it wants
        return "", explain(error)


def explain(error: Exception) -> str:
    """Return an error of a template or a tokenizer in words, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
