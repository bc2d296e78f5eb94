"""Prompts to tokens, by the model's own chat template, and the tokens that end a completion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..errors import PolicyError, shorten
from ..prompts import Prompt
from .measuring import explain
from .rendering import encode, render
from .stranger import UnusableError, is_strangers, make_tokens


class EncodedPrompt(NamedTuple):
    """A prompt as the model reads it.

    Attributes:
        text: What the chat template made of it, or the plain contents.
        ids: Its tokens.
    """

    text: str
    ids: list[int]


def encode_prompts(
    tokenizer: Any, prompts: Sequence[Prompt], *, poll: Callable[[], None] = lambda: None
) -> list[EncodedPrompt]:
    """Return text and tokens of each prompt.

    Args:
        tokenizer: The model's tokenizer.
        prompts: Any number.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        PolicyError: The chat template or the tokenizer refuses one of them, or takes too much memory or time.
    """
    conversations = [prompt.messages for prompt in prompts]
    make = make_tokens if is_strangers(tokenizer) else _here
    try:
        return [EncodedPrompt(*made) for made in make(tokenizer, conversations, poll)]
    except UnusableError as error:
        prompt = prompts[error.index]
        remedy = (
            "many templates know no system role: leave `system` empty"
            if prompt.messages[0][0] == "system"
            else "change the prompt, or get the model's original files"
        )
        raise PolicyError(
            f"The model's chat template refuses the prompt {shorten(prompt.text)} ({error}); {remedy}."
        ) from error


def encode_prompt(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Return the token ids of one prompt; see `encode_prompts`."""
    return encode_prompts(tokenizer, [prompt])[0].ids


def render_prompt(tokenizer: Any, prompt: Prompt) -> str:
    """Return the text of one prompt as the model is given it; see `encode_prompts`."""
    return encode_prompts(tokenizer, [prompt])[0].text


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each text as it is.

    Raises:
        PolicyError: The tokenizer takes too much memory or time for one of them.
    """
    make = make_tokens if is_strangers(tokenizer) else _here
    try:
        return [ids for _, ids in make(tokenizer, texts, lambda: None)]
    except UnusableError as error:
        raise PolicyError(
            f"The model's tokenizer cannot be used for {shorten(texts[error.index])} ({error}); "
            "get the model's original files."
        ) from error


def _here(
    tokenizer: Any, conversations: Sequence[Any], poll: Callable[[], None]
) -> Iterator[tuple[str, list[int]]]:
    for index, one in enumerate(conversations):
        poll()
        try:
            text = one if isinstance(one, str) else render(tokenizer, one)
            ids = encode(tokenizer, text)
        except Exception as error:  # of many classes: a template raises what it wants
            raise UnusableError(index, explain(error)) from error
        yield text, ids


def context_length(model: Any) -> int | None:
    """Return how many tokens the model can take, prompt and completion together; None where it does not say."""
    config = model.config
    for part in (config, config.get_text_config()):
        length = getattr(part, "max_position_embeddings", None)
        if isinstance(length, int) and length > 0:
            return length
    return None


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
