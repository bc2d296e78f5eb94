"""How llama.cpp's converter writes a vocabulary that it would refuse, or read from a file that is not there.

The converter knows byte-pair tokenizers by a hash of their output and refuses every vocabulary it has not met. Here
such a vocabulary is taken by its split rule instead, one of sentencepiece without its `tokenizer.model` by what
`tokenizer.json` says, and that of a base from a GGUF file as that file has it. (The export then compares both
tokenizers, so a wrong guess cannot pass.)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from .sentence_pieces import pieces_of

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Split rules of tokenizer.json that llama.cpp has under a name. llama-bpe looks a whole word up before it
# merges, as `ignore_merges` asks for; smaug-bpe is the same rule without that.
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_TAIL}"
_RULES = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt-2",
    _LLAMA3: "smaug-bpe",
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_TAIL}": "qwen2",
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen35",
}


def pre_tokenizer_type(tokenizer: dict) -> str | None:
    """Llama.cpp's name for the split rule of a `tokenizer.json`, or None where it has none."""
    top = tokenizer.get("pre_tokenizer") or {}
    parts = top.get("pretokenizers", [top])
    kinds = [part.get("type") for part in parts]
    byte_level = parts[-1]
    if kinds[-1] != "ByteLevel" or byte_level.get("add_prefix_space"):
        return None
    splits_itself = byte_level.get("use_regex", True)
    if kinds == ["ByteLevel"] and splits_itself:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and splits_itself and parts[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not splits_itself:
        rule = parts[0].get("pattern", {}).get("Regex")
        if rule == _LLAMA3 and tokenizer.get("model", {}).get("ignore_merges"):
            return "llama-bpe"
        return _RULES.get(rule)
    return None


def _text_models(module: ModuleType) -> Any:
    """Return the class of all text models; newer commits keep it in a package, older ones in the script."""
    holder = sys.modules.get("conversion", module)
    return getattr(holder, "TextModel", None) or holder.Model


def take_as_it_is(module: ModuleType, file: Path) -> None:
    """Let every text model write the tokenizer's entries as they were in the GGUF file that it comes from."""
    import gguf

    entries = json.loads(file.read_text(encoding="utf-8"))

    def set_vocab(model: Any, _own: Callable[[], None]) -> None:
        for key, kind, value in entries:
            model.gguf_writer.add_key_value(key, value, gguf.GGUFValueType(kind))

    _replace_vocabulary(module, set_vocab)


def read_without_model(module: ModuleType, folder: Path) -> None:
    """Let a text model without tokenizer.model take the same words from tokenizer.json."""
    import gguf

    file = folder / "tokenizer.json"
    if (folder / "tokenizer.model").is_file() or not file.is_file():
        return
    content = json.loads(file.read_text(encoding="utf-8"))

    def set_vocab(model: Any, own: Callable[[], None]) -> None:
        rows = model.hparams.get("vocab_size") or len(content["model"]["vocab"])
        pieces = pieces_of(content, rows)
        if pieces is None:
            _by_own_way(model, own)
            return
        writer = model.gguf_writer
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(pieces.tokens)
        writer.add_token_scores(pieces.scores)
        writer.add_token_types(pieces.kinds)
        gguf.SpecialVocab(folder, n_vocab=len(pieces.tokens)).add_to_gguf(writer)
        writer.add_add_space_prefix(pieces.leading_space)

    _replace_vocabulary(module, set_vocab)


def _by_own_way(model: Any, own: Callable[[], None]) -> None:
    """Write byte pairs where a class would only take sentencepiece's file."""
    try:
        own()
    except (FileNotFoundError, ValueError) as error:
        if "tokenizer.model" not in str(error):
            raise
        model._set_vocab_gpt2()


def _replace_vocabulary(
    module: ModuleType, set_vocab: Callable[[Any, Callable[[], None]], None]
) -> None:
    """Give every text model another way to write its vocabulary; it is called with the model and its own way."""
    owner = _text_models(module)
    begin = owner.__init__

    def begin_with_vocabulary(self: Any, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        self.set_vocab = partial(set_vocab, self, self.set_vocab)

    owner.__init__ = begin_with_vocabulary


def accept_unknown(module: ModuleType, model: Path) -> None:
    """Let a byte-pair vocabulary that the converter has not met be known by its split rule."""
    owner = _text_models(module)
    known = owner.get_vocab_base_pre

    def get_vocab_base_pre(self: object, tokenizer: object) -> str:
        try:
            return known(self, tokenizer)
        except NotImplementedError:
            file = model / "tokenizer.json"
            content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            name = pre_tokenizer_type(content)
            if name is None:
                raise NotImplementedError(
                    "llama.cpp has no name for the tokenizer's split rule "
                    f"{json.dumps(content.get('pre_tokenizer'))[:200]}; export a model with a known tokenizer"
                ) from None
            return name

    owner.get_vocab_base_pre = get_vocab_base_pre
