"""Code that a model's JSON files may name: libraries would import it, fetch it, or choose a class by it.

Only plain data is looked at here, so that one place says what a name may be, whichever library reads it. What no
library needs from an honest model is refused, not left to each library's own switch: llama.cpp's converter asks
transformers for remote code by itself, and older versions of transformers took code in a local folder as trusted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

# How attention may be computed; all other values of these keys name code, which libraries fetch from the hub.
_IMPLEMENTATIONS = {None, "eager", "sdpa", "grouped_mm", "batched_mm"}
# The form of the cache is a word of transformers' own list, and never used here.
_CACHE = "cache_implementation"
# Keys whose value names a class in a file or in a repository.
_CODE_KEYS = ("auto_map", "custom_pipelines", "custom_generate")
# Transformers takes the class of any name it exports and gives it the folder: some of them load datasets and
# pickles. Those of one part that read another folder's settings (RAG, the Auto classes) are no tokenizers.
_TOKENIZER = re.compile(r"(?!Auto|Rag)\w+Tokenizer(Fast)?|\w+Backend")
# Torch is asked for an attribute of this name, and imports whole parts of itself for some names.
_DTYPE = re.compile(r"(torch\.)?(auto|bool|half|float|double|int|long|short|[A-Za-z]+\d\w*)")
# Methods whose code is an installed package; the others fetch kernels from the hub.
_QUANTISERS = {
    *("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit"),
    *("auto-round", "awq", "compressed-tensors", "gptq", "hqq", "quanto", "torchao"),
}
_CODE_SUFFIXES = (".py", ".pyc", ".pyd", ".so", ".dll", ".dylib")


def code_in(key: str, value: object) -> str | None:
    """Return what is wrong with this entry of a JSON file, with the remedy; None where it names no code."""
    if (
        key in _CODE_KEYS and value and not isinstance(value, int)
    ):  # a vocabulary may hold such a word
        return (
            "names code that comes with a model, which is never run: remove the entry if transformers knows "
            "this architecture itself"
        )
    if "_implementation" in key and key != _CACHE and not _is_implementation(value):
        return "asks for code from outside the model: remove the entry"
    if key == "tokenizer_class" and not _fits(_TOKENIZER, value):
        return "names no tokenizer: get the model's original file"
    if key.endswith(("dtype", "quant_storage")) and not _fits(_DTYPE, value):
        return "names no type of numbers: get the model's original file"
    if key == "quant_method" and not (isinstance(value, str) and value in _QUANTISERS):
        return (
            "asks for kernels from outside the model: take the full-precision model, which `precision` can "
            "quantise"
        )
    if key.endswith("_file") and isinstance(value, str) and not is_plain(value):
        return "names a file outside the model's folder: remove the entry"
    return None


def named_file(text: str, files: Collection[str]) -> str | None:
    """Return the file of code among `files` that this text of a JSON file names, as a path or as `module.Class`.

    Args:
        text: Any text of a JSON file.
        files: Paths in the model's folder, with forward slashes.
    """
    path = text.rsplit("--", 1)[-1].replace("\\", "/").removeprefix("./")
    module = path.rpartition(".")[0]
    if path in files:
        return path if path.endswith(_CODE_SUFFIXES) else None
    for suffix in _CODE_SUFFIXES if module else ():
        for name in (module, module.replace(".", "/")):
            if f"{name}{suffix}" in files:
                return f"{name}{suffix}"
    return None


def is_code(name: str) -> bool:
    """Tell whether a file of this name can be imported or loaded as code."""
    return name.lower().endswith(_CODE_SUFFIXES)


def is_plain(name: str) -> bool:
    """Tell whether it is the name of a file without any folder."""
    return bool(name) and not any(character in name for character in "/\\:\0") and name != ".."


def entries_in(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield all (key, value) pairs of nested JSON, without recursion."""
    parts = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            yield from part.items()
            parts.extend(part.values())
        elif isinstance(part, list):
            parts.extend(part)


def texts_in(value: Any) -> Iterator[str]:
    """Yield all texts in nested JSON that are values, without recursion."""
    parts = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            parts.extend(part.values())
        elif isinstance(part, list):
            parts.extend(part)


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    """Tell whether it is absent, a number (a vocabulary may hold any word), or a text of this form."""
    if isinstance(value, dict):
        return all(_fits(pattern, one) for one in value.values())
    return value is None or isinstance(value, int) or bool(pattern.fullmatch(str(value)))


def _is_implementation(value: object) -> bool:
    values = value.values() if isinstance(value, dict) else [value]
    return all(one is None or (isinstance(one, str) and one in _IMPLEMENTATIONS) for one in values)
