"""Messages to text by a tokenizer's chat template, and text to tokens; no imports, as the prompt worker runs it, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


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
