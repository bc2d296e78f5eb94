"""What a path holds that is no model to train: each kind has a message and a remedy of its own."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..errors import PolicyError, shorten
from ..plain_files import open_plain, read_text
from .weight_files import WeightFiles

# Of a pointer that Git LFS leaves where a file was not fetched.
_POINTER, _POINTER_BYTES = b"version https://git-lfs", 1024
_CONFIG_BYTES = 2**20
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# Types of safetensors that hold a number in 8 bits or fewer.
_SMALL_FLOATS = ("F8", "F6", "F4")
# Weights that other programs have packed: their layers are no linear layers of torch, so they take no LoRA here.
_PACKED = {
    *("aqlm", "auto-round", "auto_round", "autoround", "awq", "bitnet", "compressed-tensors"),
    *("eetq", "exl2", "exl3", "gptq", "higgs", "hqq", "quanto", "quark", "spqr", "vptq"),
}


def check_no_file(path: Path) -> None:
    """Refuse the path of a file that is no GGUF file: other models are folders.

    Raises:
        PolicyError: The message says which folder is wanted.
    """
    if path.is_file() and path.suffix.lower() != ".gguf":
        raise PolicyError(
            f"{str(path)!r} is a file; choose the folder that holds config.json and *.safetensors, or a GGUF file."
        )


def check_kind(folder: Path) -> None:
    """Refuse a folder of something else than a model's configuration and its weights as safetensors.

    Raises:
        PolicyError: The message says what it holds and what to do.
    """
    shown = repr(str(folder))
    _check_pointers(folder)
    if not (folder / "config.json").is_file():
        raise PolicyError(f"{shown} is not a Hugging Face model folder: {_instead(folder)}.")
    if not any(folder.glob("*.safetensors")):
        raise PolicyError(f"{shown} has no *.safetensors file; {_other_weights(folder)}.")


def check_packed(config: dict[str, Any], folder: Path) -> None:
    """Refuse a model whose weights another program has packed.

    Args:
        config: Content of its config.json.
        folder: The model's folder, for the message.

    Raises:
        PolicyError: The message names the method.
    """
    method = packing_of(config)
    if method and method.lower() in _PACKED:
        raise PolicyError(
            f"{str(folder)!r} is quantised by {shorten(method)}, and such weights cannot be trained; get the model in "
            "full precision, and choose nf4 or int8 as precision where memory is short."
        )


def check_stored(files: WeightFiles, config: dict[str, Any], folder: Path) -> None:
    """Refuse weights that are stored in 8 bits or fewer without a word: they would be taken without their scales.

    Args:
        files: What the files of weights hold.
        config: Content of the folder's config.json.
        folder: The model's folder, for the message.

    Raises:
        PolicyError: The message names one of the weights and its type.
    """
    if packing_of(config):  # bitsandbytes says how to take them; others are refused
        return
    for name, kind in files.kinds.items():
        whole = (
            kind.startswith(("I", "U")) and name.endswith("weight") and len(files.shapes[name]) > 1
        )
        if whole or kind.startswith(_SMALL_FLOATS):
            raise PolicyError(
                f"The weights of {str(folder)!r} are quantised ({shorten(name)} is of the type {kind}), and config.json "
                "does not say how; get the model in full precision, and choose nf4 or int8 as precision where memory "
                "is short."
            )


def packing_of(config: dict[str, Any]) -> str | None:
    """Return by which method a configuration says that the weights are packed."""
    packing = config.get("quantization_config")
    method = packing.get("quant_method") if isinstance(packing, dict) else None
    return method if isinstance(method, str) else None


def check_shards(shards: Collection[str], folder: Path) -> None:
    """Refuse a folder that lacks some of the files that its index names.

    Args:
        shards: Names of the files, each any number of times.
        folder: The model's folder.

    Raises:
        PolicyError: The message names one and counts the others.
    """
    named = set(shards)
    gone = sorted(name for name in named if not (folder / name).is_file())
    if gone:
        raise PolicyError(
            f"{str(folder)!r} lacks {len(gone)} of the {len(named)} files of weights that its index names "
            f"({shorten(gone[0])}); finish the download."
        )


def _check_pointers(folder: Path) -> None:
    """Refuse a folder in which a pointer stands for a file."""
    for file in sorted(folder.iterdir()):
        if not file.is_file() or file.stat().st_size > _POINTER_BYTES:
            continue
        with open_plain(file) as opened:
            if opened.read(len(_POINTER)) == _POINTER:
                raise PolicyError(
                    f"{str(file)!r} is not the file itself but a pointer to it by Git LFS; run `git lfs pull` in its "
                    "folder, or download the model again."
                )


def _instead(folder: Path) -> str:
    """Return what a folder without config.json holds, and what to do."""
    if (folder / "adapter_config.json").is_file():
        base = _base_of(folder / "adapter_config.json")
        return (
            f"it has no config.json but an adapter (adapter_config.json); choose the model that it was made for{base}, "
            "or merge the two and choose the result"
        )
    file = next(iter(sorted(folder.glob("*.gguf"))), None)
    if file:
        return (
            f"it has no config.json but a GGUF file; choose the file itself ({shorten(file.name)})"
        )
    return "it has no config.json; choose the folder that holds config.json and *.safetensors"


def _base_of(file: Path) -> str:
    try:
        base = json.loads(read_text(file, _CONFIG_BYTES)).get("base_model_name_or_path")
    except (OSError, ValueError, RecursionError, AttributeError):
        return ""
    return f", {shorten(base)}" if isinstance(base, str) and base else ""


def _other_weights(folder: Path) -> str:
    """Return which weights a folder has in place of safetensors, and what to do."""
    pickles = next((file for kind in _PICKLES for file in sorted(folder.glob(kind))), None)
    if pickles:
        return (
            f"its weights are pickles ({shorten(pickles.name)}), which may run code and are not read: get the "
            "safetensors version, or load it where you trust it and save it with `save_pretrained`"
        )
    file = next(iter(sorted(folder.glob("*.gguf"))), None)
    if file:
        return f"its weights are a GGUF file: choose the file itself ({shorten(file.name)})"
    return "only its configuration is there: finish the download"
