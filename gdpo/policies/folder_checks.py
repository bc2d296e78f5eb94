"""What a model's folder may hold, looked at before any library opens it: it may come from a stranger.

Weights are read as safetensors alone and code of a model is never run. But a model's JSON files can also name
other files, other models and kernels, which libraries then open, load and download.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import PolicyError, shorten
from ..plain_files import check_plain, read_text
from .digest import MAX_TEXT_BYTES
from .folder_kinds import check_kind, check_packed, check_shards, check_stored
from .named_code import code_in, entries_in, is_code, is_plain, named_file, texts_in
from .weight_files import WeightFiles, read_weight_files

# Tokens and their numbers, which may be any words; nothing else is read from these files.
_DATA = {"tokenizer.json", "vocab.json", "added_tokens.json"}
# Experts of all layers together; the largest models have some 25 000.
_MAX_EXPERTS = 100_000
# Names that count layers and experts in the configurations of transformers; sizes and places have such words, too
# (`vocab_size_per_layer_input`, `max_window_layers`, `block_size`, `shared_expert_intermediate_size`).
_LAYERS = re.compile(r"(^|_)(n|num)_(?!nextn_)(\w+_)?(layers?|blocks)$|^(de|en)coder_layers$")
_EXPERTS = re.compile(r"(^|_)(n|num)_(\w+_)?experts$")
# Configurations have kilobytes; parsing them takes the libraries far more than their size.
_MAX_CONFIG_BYTES = 2**20
# Endings of the files that libraries open by their names.
_OPENED = {".json", ".jinja", ".model", ".safetensors", ".txt"}


def check_model_folder(folder: Path) -> None:
    """Refuse a folder that is no complete model, or from which something else would be read than its own files.

    Raises:
        PolicyError: The message says what and what to do.
    """
    shown = repr(str(folder))
    _check_links(folder)  # these two before any of its files is opened
    _check_entries(folder)
    check_kind(folder)
    if (folder / "adapter_config.json").exists():
        raise PolicyError(
            f"{shown} holds an adapter (adapter_config.json), which can name any other model as its base; "
            "merge it into its model, or move the file away to load the model alone."
        )
    _check_code(folder)
    check_packed(read_json(folder / "config.json"), folder)
    for index in folder.glob("*.index.json"):
        _check_index(index)
    files = read_weight_files(folder)
    check_stored(files, read_json(folder / "config.json"), folder)
    _check_size(files, folder)


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
    names: list[Any] = list(shards.values()) if isinstance(shards, dict) else [shards]
    for name in names:
        if not isinstance(name, str) or not is_plain(name) or not name.endswith(".safetensors"):
            raise PolicyError(
                f"{str(file)!r} names weights outside the model's folder or of another format: "
                f"{shorten(name)}; get the model's original file."
            )
    if (
        file.name == "model.safetensors.index.json"
        and not (file.parent / "model.safetensors").is_file()
    ):
        check_shards(names, file.parent)


def _check_size(files: WeightFiles, folder: Path) -> None:
    """Refuse a model of more parts than its files could back: even without contents each part takes memory."""
    config = read_json(folder / "config.json")
    tensors = len(files.shapes)
    for part in [config, *(value for _, value in entries_in(config) if isinstance(value, dict))]:
        layers, experts = _largest(part, _LAYERS), _largest(part, _EXPERTS)
        if layers > tensors or layers * experts > _MAX_EXPERTS:
            raise PolicyError(
                f"{str(folder / 'config.json')!r} asks for over {layers - 1} layers with {experts} experts, but the "
                f"files hold {tensors} tensors; get the model's original files."
            )


def _largest(part: dict[str, Any], count: re.Pattern[str]) -> int:
    """Return the largest whole number under a name that counts such parts; at least 1."""
    found = (value for name, value in part.items() if count.search(name))
    return max((value for value in found if type(value) is int), default=1)


def _parse(file: Path) -> Any:
    try:
        limit = _MAX_CONFIG_BYTES if file.name == "config.json" else MAX_TEXT_BYTES
        return json.loads(read_text(file, limit))  # takes some ten times that in memory
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PolicyError(
            f"{str(file)!r} cannot be read ({shorten(reason)}); get the model's original file."
        ) from error
