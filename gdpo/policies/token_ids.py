"""The numbers of tokens in a model's files: each must have a row in the model's embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import PolicyError, shorten

_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def check_ids(model: Any, tokenizer: Any, source: str) -> None:
    """Refuse token ids without a row of the embeddings: on a card they would stop the whole process's CUDA.

    Args:
        model: The loaded model.
        tokenizer: Its tokenizer.
        source: The model, for the message.

    Raises:
        PolicyError: The message names the file and the id.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if max(highest + 1, len(tokenizer)) > rows:
        raise PolicyError(
            f"The tokenizer of {source!r} has {max(highest + 1, len(tokenizer))} tokens but the model only {rows}; "
            "use the tokenizer files that belong to this model."
        )
    for name, value in _named_ids(model, tokenizer):
        if type(value) is not int or not 0 <= value < rows:
            raise PolicyError(
                f"{name} of {source!r} should be a token's number below {rows}. Found {shorten(value)}; "
                "get the model's original file."
            )


def _named_ids(model: Any, tokenizer: Any) -> Iterator[tuple[str, object]]:
    """Yield the special tokens that are named, with where; a place may have several."""
    places = {
        "The tokenizer's": tokenizer,
        "generation_config.json's": model.generation_config,
        "config.json's": model.config,
    }
    for place, part in places.items():
        for name in _SPECIAL:
            value = getattr(part, name, None)
            for one in value if isinstance(value, list) else [value]:
                if one is not None and one != -1:  # some files write -1 for none
                    yield f"{place} {name}", one
