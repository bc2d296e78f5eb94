"""Messages to text by a tokenizer's chat template, and text to tokens; no imports, as the prompt worker runs it, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

# Characters of the texts that become tokens together: enough for speed, and no more memory than a long prompt takes.
_TOGETHER = 250_000


def render(tokenizer: Any, messages: Sequence[Sequence[str]]) -> str:
    """Return the text that the model is given: by its chat template, or the plain contents without one.

    Args:
        tokenizer: A tokenizer of transformers.
        messages: Pairs of role and content.
    """
    if not tokenizer.chat_template:
        return "\n\n".join(content for _, content in messages)
    conversation = [{"role": role, "content": content} for role, content in messages]
    return tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)


def encode(tokenizer: Any, text: str) -> list[int]:
    """Return token ids of a rendered text; a chat template brings its own special tokens."""
    plain = not tokenizer.chat_template
    return list(tokenizer(text, add_special_tokens=plain)["input_ids"])


def count_all(
    tokenizer: Any, rendered: Sequence[tuple[str, str]], explain: Callable[[Exception], str]
) -> list[int | str]:
    """Return how many tokens each text becomes, or why it becomes none.

    Texts that are handed over together take half the time that they take one by one. Of what comes of them only the
    numbers are kept.

    Args:
        tokenizer: A tokenizer of transformers.
        rendered: Pairs of a text and the reason why there is none, of which one is empty.
        explain: Function that puts an error into words.
    """
    found: list[int | str] = []
    part: list[tuple[str, str]] = []
    size = 0
    for one in rendered:
        part.append(one)
        size += len(one[0])
        if size >= _TOGETHER:
            found += _count_part(tokenizer, part, explain)
            part, size = [], 0
    return found + _count_part(tokenizer, part, explain)


def _count_part(
    tokenizer: Any, rendered: Sequence[tuple[str, str]], explain: Callable[[Exception], str]
) -> list[int | str]:
    try:
        counts = iter(_count(tokenizer, [text for text, reason in rendered if not reason]))
        return [reason or next(counts) for _, reason in rendered]
    except Exception as error:  # noqa: BLE001  of any class; alone, the text that it is about is known
        if len(rendered) == 1:
            return [explain(error)]
        return [count for one in rendered for count in _count_part(tokenizer, [one], explain)]


def _count(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    if not texts:
        return []
    plain = not tokenizer.chat_template
    made = tokenizer(
        list(texts),
        add_special_tokens=plain,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # one that is too long is told as such
    )
    return [len(ids) for ids in made["input_ids"]]
