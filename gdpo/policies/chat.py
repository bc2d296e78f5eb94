"""Prompts to tokens, by the model's own chat template, and the tokens that end a completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import PolicyError, shorten
from ..prompts import Prompt
from .template_limits import time_limit


def render_prompt(tokenizer: Any, prompt: Prompt) -> str:
    """Return the text that the model is given: by its chat template, or the plain contents without one."""
    if not tokenizer.chat_template:
        return "\n\n".join(content for _, content in prompt.messages)
    messages = [{"role": role, "content": content} for role, content in prompt.messages]
    try:
        with time_limit():
            return tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PolicyError(
            f"The model's chat template refuses the prompt {shorten(prompt.text)} ({reason}); "
            "many templates know no system role: leave `system` empty."
        ) from error


def encode_prompt(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Return token ids of the rendered prompt; a chat template brings its own special tokens."""
    plain = not tokenizer.chat_template
    return list(tokenizer(render_prompt(tokenizer, prompt), add_special_tokens=plain)["input_ids"])


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return ids of the tokens that end a completion."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    ids = set(ids if isinstance(ids, list) else [ids]) | {tokenizer.eos_token_id}
    return sorted(i for i in ids if i is not None)


def completion_text(tokenizer: Any, ids: Sequence[int], stops: Sequence[int]) -> str:
    """Return the text of a completion as the model said it, special tokens such as <answer> in their places.

    Tokens that end a completion and padding are left out; nothing else is added, dropped or tidied.

    Args:
        tokenizer: The model's tokenizer.
        ids: Tokens of the completion.
        stops: Tokens that end one.
    """
    silent = {*stops, tokenizer.pad_token_id}
    said = [token for token in ids if token not in silent]
    text = tokenizer.decode(
        said,
        skip_special_tokens=False,
        spaces_between_special_tokens=False,  # which tokenizers written in Python put there
        clean_up_tokenization_spaces=False,
    )
    return text.strip()
