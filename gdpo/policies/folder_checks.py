"""What a model's folder may hold, looked at before any library opens it: it may come from a stranger.

Weights are read as safetensors alone and code of a model is never run. But a model's JSON files can also name
other files, other models and kernels, which libraries then open, load and download.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import PolicyError, shorten
from ..plain_files import check_plain, read_text
from .digest import MAX_TEXT_BYTES
from .named_code import code_in, entries_in, is_code, is_plain, named_file, texts_in

# Tokens and their numbers, which may be any words; nothing else is read from these files.
_DATA = {"tokenizer.json", "vocab.json", "added_tokens.json"}
# Weights that a configuration asks for, per byte of weights in the files: 2 in a 4-bit model, and some slack.
_MAX_WEIGHTS_PER_BYTE = 8
# Endings of the files that libraries open by their names.
_OPENED = {".json", ".jinja", ".model", ".safetensors", ".txt"}


def check_model_folder(folder: Path) -> None:
    """Refuse a folder that is no complete model, or from which something else would be read than its own files.

    Raises:
        PolicyError: The message says what and what to do.
    """
    shown = repr(str(folder))
    if not (folder / "config.json").is_file():
        raise PolicyError(
            f"{shown} is not a Hugging Face model folder: it has no config.json; "
            "choose the folder that holds config.json and *.safetensors."
        )
    if not any(folder.glob("*.safetensors")):
        raise PolicyError(
            f"{shown} has no *.safetensors file; other formats may run code and are not read: "
            "download or convert the safetensors version."
        )
    if (folder / "adapter_config.json").exists():
        raise PolicyError(
            f"{shown} holds an adapter (adapter_config.json), which can name any other model as its base; "
            "merge it into its model, or move the file away to load the model alone."
        )
    _check_links(folder)
    _check_entries(folder)
    _check_code(folder)
    for index in folder.glob("*.index.json"):
        _check_index(index)
    _check_size(folder)


def read_json(file: Path) -> dict[str, Any]:
    """The file's JSON object; empty where there is no file.

    Raises:
        PolicyError: It cannot be read, or holds something else.
    """
    content = _parse(file) if file.exists() else {}
    if not isinstance(content, dict):
        raise PolicyError(
            f"{str(file)!r} should hold a JSON object. Found {shorten(content)}; get the model's original file."
        )
    return content


def _check_entries(folder: Path) -> None:
    """Refuse what libraries would wait for or read for ever: pipes, sockets and devices, behind symlinks too."""
    for file in folder.rglob("*"):
        try:
            if file.suffix in _OPENED or not (file.is_dir() or _leads_nowhere(file)):
                check_plain(file)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise PolicyError(
                f"{str(file)!r} cannot be read ({shorten(reason, 120)}); remove it, or get the model's original file."
            ) from error


def _leads_nowhere(file: Path) -> bool:
    return file.is_symlink() and not file.exists()


def _check_links(folder: Path) -> None:
    """Weights may lie on another disk; every other file must be the folder's own, or of the same cached download."""
    home = folder.resolve()
    home = home.parent.parent if home.parent.name == "snapshots" else home
    for file in folder.rglob("*"):
        if file.is_symlink() and file.suffix != ".safetensors":
            try:
                inside = file.resolve().is_relative_to(home)
            except (OSError, RuntimeError):  # a ring of links
                inside = False
            if not inside:
                raise PolicyError(
                    f"{str(folder)!r}: {file.name!r} is a symlink that leads out of the folder; "
                    "copy the file there instead."
                )


def _check_code(folder: Path) -> None:
    """Refuse code that a JSON file of the folder names, and code that a library would look for unasked."""
    if (folder / "custom_generate").exists():
        raise PolicyError(
            f"{str(folder / 'custom_generate')!r} holds code that changes how a model answers, and code of a model "
            "is never run: remove that folder."
        )
    files = [file for file in folder.rglob("*") if file.is_file()]
    code = {file.relative_to(folder).as_posix() for file in files if is_code(file.name)}
    for file in files:
        name = file.name.lower()
        if name.endswith(".json") and file.name not in _DATA and not name.endswith(".index.json"):
            _check_names(file, code)


def _check_names(file: Path, code: set[str]) -> None:
    content = _parse(file)
    for key, value in entries_in(content):
        wrong = code_in(key, value)
        if wrong:
            raise PolicyError(f"{str(file)!r}: {key} {shorten(value)} {wrong}.")
    for text in texts_in(content) if code else ():
        if named_file(text, code):
            raise PolicyError(
                f"{str(file)!r} names code in the model's folder, which is never run: {shorten(text)}; remove the entry."
            )


def _check_index(file: Path) -> None:
    shards = read_json(file).get("weight_map")
    names = shards.values() if isinstance(shards, dict) else [shards]
    for name in names:
        if not isinstance(name, str) or not is_plain(name) or not name.endswith(".safetensors"):
            raise PolicyError(
                f"{str(file)!r} names weights outside the model's folder or of another format: "
                f"{shorten(name)}; get the model's original file."
            )


def _check_size(folder: Path) -> None:
    """A configuration may ask for any number of weights; those that no file holds are made in memory."""
    held = sum(file.stat().st_size for file in folder.glob("*.safetensors") if file.is_file())
    config = read_json(folder / "config.json")
    for part in [config, *(value for _, value in entries_in(config) if isinstance(value, dict))]:
        width, layers = (
            _size(part, "hidden_size", "n_embd"),
            _size(part, "num_hidden_layers", "n_layer"),
        )
        inner, rows = _size(part, "intermediate_size", "n_inner"), _size(part, "vocab_size")
        wanted = max(layers * width * max(width, inner), rows * width, layers)
        if wanted > _MAX_WEIGHTS_PER_BYTE * held:
            raise PolicyError(
                f"{str(folder / 'config.json')!r} asks for over {wanted:.1e} weights, but the files hold "
                f"{held} bytes; get the model's original files."
            )


def _size(part: dict[str, Any], *names: str) -> int:
    found = (part.get(name) for name in names)
    return next((value for value in found if isinstance(value, int) and value > 0), 1)


def _parse(file: Path) -> Any:
    try:
        return json.loads(read_text(file, MAX_TEXT_BYTES))  # takes some ten times that in memory
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PolicyError(
            f"{str(file)!r} cannot be read ({shorten(reason)}); get the model's original file."
        ) from error
