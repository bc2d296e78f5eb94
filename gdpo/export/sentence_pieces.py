"""The vocabulary of a `tokenizer.json` in the form that llama.cpp gives to sentencepiece models.

Newer versions of transformers save such tokenizers without their `tokenizer.model`, and some of the converter's classes
read nothing else. What `tokenizer.json` says is the same: a pair that is merged early has a high score.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_NORMAL, _UNKNOWN, _CONTROL, _USERS, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_SPACE = "\u2581"
_NO_WORD = -1e9  # score of what no pair makes


class Pieces(NamedTuple):
    """Words with their scores and kinds by number, and whether a space is put before a text."""

    tokens: list[str]
    scores: list[float]
    kinds: list[int]
    leading_space: bool


def pieces_of(tokenizer: dict[str, Any], rows: int) -> Pieces | None:
    """Return the vocabulary; None where it is not one of sentencepiece.

    Args:
        tokenizer: Content of tokenizer.json.
        rows: Number of tokens that the model has weights for.
    """
    model = tokenizer.get("model") or {}
    words = model.get("vocab")
    if model.get("type") != "BPE" or not model.get("byte_fallback") or not isinstance(words, dict):
        return None
    tokens = [f"[PAD{number}]" for number in range(rows)]
    scores, kinds = [_NO_WORD] * rows, [_UNUSED] * rows
    ranks = _ranks(model.get("merges") or ())
    for word, number in words.items():
        if number < rows:
            tokens[number], kinds[number] = word, _kind(word, model.get("unk_token"))
            scores[number] = float(ranks.get(word, _NO_WORD))
    for added in tokenizer.get("added_tokens") or ():
        number = added["id"]
        if number < rows and kinds[number] != _UNKNOWN:
            special = added.get("special")
            tokens[number] = added["content"] if special else added["content"].replace(_SPACE, " ")
            kinds[number] = _CONTROL if special else _USERS
    return Pieces(tokens, scores, kinds, _puts_space(tokenizer))


def _ranks(merges: Any) -> dict[str, int]:
    """Return the negative number of the first pair that makes each word."""
    ranks: dict[str, int] = {}
    for number, pair in enumerate(merges):
        word = pair.replace(" ", "", 1) if isinstance(pair, str) else "".join(pair)
        ranks.setdefault(word, -number)
    return ranks


def _kind(word: str, unknown: object) -> int:
    if word == unknown:
        return _UNKNOWN
    return _BYTE if re.fullmatch(r"<0x[0-9A-F]{2}>", word) else _NORMAL


def _puts_space(tokenizer: dict[str, Any]) -> bool:
    """Tell whether the tokenizer puts a space before a text."""
    top = [tokenizer.get(name) or {} for name in ("normalizer", "pre_tokenizer")]
    parts = [
        part
        for one in top
        for part in (one.get("normalizers") or one.get("pretokenizers") or [one])
    ]
    return any(
        part.get("type") == "Prepend"
        or (part.get("type") == "Metaspace" and part.get("prepend_scheme", "always") != "never")
        for part in parts
    )
