"""Runs llama.cpp's converter, as a program: `convert_worker.py REQUEST.json RESPONSE.jsonl`.

The converter must see the gguf library of its own commit and changes global state, hence a process of its own.
Only its command line is stable between commits, so that is what is called; the one thing changed is
the tokenizer check: the converter knows byte-pair tokenizers by a hash of their output and refuses every
vocabulary it has not met. Here such a vocabulary is taken by its split rule instead, and that of a base
from a GGUF file as that file has it. (The export then compares both tokenizers, so a wrong guess cannot pass.)

The converter asks transformers in many places to run code that comes with a model. `forbid_remote_code` takes that
away from the library itself before the converter is loaded.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_SCRIPT = "convert_hf_to_gguf.py"
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


class Errors(logging.Handler):
    """Keeps what the converter logs as an error before it exits."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.messages.append(record.getMessage())


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


def convert(request: dict) -> Iterator[dict]:
    """Convert the folder `model` once for each of `outputs`, a list of [type, path]."""
    forbid_remote_code()
    module = _load(Path(request["converter"]))
    _accept_unknown_vocabularies(module, Path(request["model"]))
    if request.get("vocabulary"):
        _take_vocabulary(module, Path(request["vocabulary"]))
    for kind, path in request["outputs"]:
        sys.argv = [_SCRIPT, "--outfile", path, "--outtype", kind.lower()]
        sys.argv += ["--model-name", request["name"], request["model"]]
        module.main()
        yield {"type": kind}


def forbid_remote_code() -> None:
    """Make transformers refuse the code of a model, whatever it is asked to trust."""
    from transformers import dynamic_module_utils

    def refuse(*_arguments: object, **_options: object) -> None:
        raise ValueError("the model names code of its own, which is never run: remove `auto_map`")

    decide = dynamic_module_utils.resolve_trust_remote_code

    def distrust(*arguments: object, **options: object) -> object:
        if arguments:
            return decide(False, *arguments[1:], **options)
        return decide(**{**options, "trust_remote_code": False})

    names = ("get_class_from_dynamic_module", "get_cached_module_file", "get_class_in_module")
    replaced: list[tuple[object, object]] = [
        (getattr(dynamic_module_utils, name), refuse) for name in names
    ]
    replaced.append((decide, distrust))
    # Modules that are loaded already have taken these functions over by name.
    for module in [m for n, m in sys.modules.items() if n.partition(".")[0] == "transformers"]:
        for name, value in list(vars(module).items()):
            for old, new in replaced:
                if value is old:
                    setattr(module, name, new)


def _load(folder: Path) -> ModuleType:
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("convert_hf_to_gguf", folder / _SCRIPT)
    if spec is None or spec.loader is None:
        raise ImportError(
            f"{_SCRIPT} is no Python file that can be imported; set the converter up again"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _text_models(module: ModuleType) -> Any:
    """Return the class of all text models; newer commits keep it in a package, older ones in the script."""
    holder = sys.modules.get("conversion", module)
    return getattr(holder, "TextModel", None) or holder.Model


def _take_vocabulary(module: ModuleType, file: Path) -> None:
    """Let every text model write the tokenizer's entries as they were in the GGUF file that it comes from."""
    import gguf

    entries = json.loads(file.read_text(encoding="utf-8"))
    owner = _text_models(module)
    begin = owner.__init__

    def begin_with_vocabulary(self: Any, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)

        def set_vocab() -> None:
            for key, kind, value in entries:
                self.gguf_writer.add_key_value(key, value, gguf.GGUFValueType(kind))

        self.set_vocab = set_vocab

    owner.__init__ = begin_with_vocabulary


def _accept_unknown_vocabularies(module: ModuleType, model: Path) -> None:
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


def main(arguments: Sequence[str]) -> int:
    """Carry out the request; the exit code is 0 only when all of it is done."""
    request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    errors = Errors()
    logging.getLogger().addHandler(errors)
    logging.getLogger().addHandler(logging.StreamHandler())
    with Path(arguments[1]).open("w", encoding="utf-8", newline="\n") as response:

        def write(line: dict) -> None:
            response.write(json.dumps(line) + "\n")
            response.flush()

        try:
            for line in convert(request):
                write(line)
        except SystemExit as error:
            write({
                "error": "; ".join(errors.messages[-2:])
                or f"the converter exited with {error.code}"
            })
            return 1
        except ModuleNotFoundError as error:
            write({
                "error": f"the converter needs the Python package {error.name!r}: install it with pip"
            })
            return 1
        except Exception as error:  # noqa: BLE001  a foreign program that raises anything
            write({"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]})
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
