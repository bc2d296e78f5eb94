"""A tokenizer from a GGUF file: what transformers makes of it, put right where llama.cpp splits texts otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .header import Header
from .splits import DIGITS, SPLITS, STARTED, WHOLE_WORDS

# Tokens that end an answer in llama.cpp, whatever the file calls its end.
_ENDS = (
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<turn|>", "<|endoftext|>"),
    *("<|eom_id|>", "<EOT>", "_<EOT>", "<|end_of_text|>", "<end_of_utterance>"),
)
_NAMED_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
_SPECIAL = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
_KINDS = {"gpt2", "llama", "gemma4"}


# Of the kinds of tokens: those with a meaning, such as the end of an answer, and those of whoever made the file.
_CONTROL, _USERS = 3, 4
_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


class SplitError(ValueError):
    """The file's texts are split into words in a way that is not known here; the message is for the user."""


def check_kind(header: Header) -> None:
    """Refuse a kind of tokenizer that cannot be made again.

    Raises:
        SplitError: The message names it.
    """
    kind, split = (header.text(f"tokenizer.ggml.{name}") for name in ("model", "pre"))
    if kind not in _KINDS:
        raise SplitError(
            f"its tokenizer is of the kind {kind[:40]!r}, which cannot be made again here"
        )
    if kind == "gpt2" and split not in {*SPLITS, *DIGITS, "", "default"}:
        raise SplitError(
            f"its tokenizer splits texts by the rule {split[:40]!r}, which is not known here"
        )


def write_tokenizer(header: Header, source: Path, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and generation_config.json into a folder.

    Args:
        header: The file's header.
        source: The file, as transformers reads it.
        folder: Where to write.
    """
    from transformers import AutoTokenizer

    made: Any = AutoTokenizer.from_pretrained(
        str(source.parent), gguf_file=source.name, local_files_only=True
    )
    file = folder / "tokenizer.json"
    made.backend_tokenizer.save(str(file))
    content = json.loads(file.read_text(encoding="utf-8"))
    _put_right(content, header)
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    _write(folder / "tokenizer_config.json", _describe(header))
    ends = _end_ids(header)
    _write(folder / "generation_config.json", {"eos_token_id": ends} if ends else {})


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


def _put_right(content: dict[str, Any], header: Header) -> None:
    """Change a tokenizer.json into what llama.cpp does with the file."""
    tokens = header.value("tokenizer.ggml.tokens")
    words = header.text("tokenizer.ggml.model") == "gpt2"
    _keep_own(content, tokens)
    if words:
        _split_words(content, header.text("tokenizer.ggml.pre"))
        _spell_whole(content, tokens, header.value("tokenizer.ggml.token_type") or [])
    start = header.value("tokenizer.ggml.bos_token_id")
    content["post_processor"] = {**_LEVEL, "use_regex": True} if words else None
    if start is not None and _starts(header):
        content["post_processor"] = _starting(tokens[start], start)


def _keep_own(content: dict[str, Any], tokens: list[str]) -> None:
    """Take out what a class of transformers has added: the file has no weights for it."""
    vocabulary, count = content["model"]["vocab"], len(tokens)
    if isinstance(vocabulary, dict):
        content["model"]["vocab"] = {word: i for word, i in vocabulary.items() if i < count}
    added = content.get("added_tokens") or []
    content["added_tokens"] = [one for one in added if one["id"] < count]


def _split_words(content: dict[str, Any], split: str) -> None:
    rule = SPLITS.get(split)
    parts: list[dict[str, Any]] = [{**_LEVEL, "use_regex": rule is None}]
    if split in DIGITS:
        parts.insert(0, {"type": "Digits", "individual_digits": True})
    if rule:
        parts.insert(0, _isolated(rule))
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": parts}
    content["normalizer"] = None
    content["decoder"] = {**_LEVEL, "use_regex": True}
    content["model"] |= {"byte_fallback": False, "fuse_unk": False, "unk_token": None}
    content["model"]["ignore_merges"] = split in WHOLE_WORDS


def _spell_whole(content: dict[str, Any], tokens: list[str], kinds: list[int]) -> None:
    """Take the tokens that are found whole in any text as the file spells them, and no others."""
    whole = {index: kind for index, kind in enumerate(kinds) if kind in (_CONTROL, _USERS)}
    vocabulary = {w: i for w, i in content["model"]["vocab"].items() if i not in whole}
    content["model"]["vocab"] = vocabulary | {tokens[index]: index for index in whole}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content["added_tokens"] = [
        {"id": index, "content": tokens[index], **plain, "special": kind == _CONTROL}
        for index, kind in whole.items()
    ]


def _isolated(rule: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": rule}, "behavior": "Isolated", "invert": False}


def _starts(header: Header) -> bool:
    """Tell whether a text begins with the start token."""
    usual = header.text("tokenizer.ggml.model") != "gpt2"
    usual = usual or header.text("tokenizer.ggml.pre") in STARTED
    return bool(header.value("tokenizer.ggml.add_bos_token", usual))


def _starting(token: str, number: int) -> dict[str, Any]:
    """Return the step that puts a token before a text."""
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    text, other = ({"Sequence": {"id": one, "type_id": 0}} for one in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, other],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }


def _describe(header: Header) -> dict[str, Any]:
    """Return a tokenizer_config.json; see `policies/tokenizer_class.py`."""
    tokens = header.value("tokenizer.ggml.tokens")
    found: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "made_from_gguf": True,
        "clean_up_tokenization_spaces": False,
    }
    for name, key in _SPECIAL.items():
        number = header.value(f"tokenizer.ggml.{key}")
        if isinstance(number, int) and 0 <= number < len(tokens):
            found[name] = tokens[number]
    template = header.text("tokenizer.chat_template")
    return {**found, "chat_template": template} if template else found


def _end_ids(header: Header) -> list[int]:
    """Return the tokens that end an answer."""
    tokens = header.value("tokenizer.ggml.tokens")
    kinds = header.value("tokenizer.ggml.token_type") or []
    named = {header.value(f"tokenizer.ggml.{key}") for key in _NAMED_ENDS} - {None}
    special = (index for index, kind in enumerate(kinds) if kind in (_CONTROL, _USERS))
    return sorted(named | {index for index in special if tokens[index] in _ENDS})
