"""What to do where a library could not load a part of a model: its own words seldom say so."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from ..errors import shorten
from ..plain_files import open_plain

# Packages that transformers asks for, by the names that it uses; a stranger's text cannot add to them.
_PACKAGES = {"google": "protobuf", "pil": "pillow", "mamba_ssm": "mamba-ssm"} | {
    name: name
    for name in (
        *("accelerate", "bitsandbytes", "blobfile", "einops", "kernels", "librosa", "num2words"),
        *("protobuf", "sentencepiece", "tiktoken", "timm", "torchaudio", "torchvision"),
    )
}
_WANTED = re.compile(
    r"requires the `?([\w-]+)`? library|No module named '(\w+)|`([\w-]+)` is required|pip install `?([\w-]+)",
    re.IGNORECASE,
)
_OF_TOKENIZERS = re.compile("tiktoken|sentencepiece|protobuf|tokenizer", re.IGNORECASE)


def because(reason: str, folder: Path, usual: str) -> str:
    """Return how a sentence goes on that says what could not be loaded: the reason and the remedy, without the dot.

    Args:
        reason: The library's own words.
        folder: The model's folder.
        usual: The remedy where nothing is known better.
    """
    reader = _reader_of(folder) if _OF_TOKENIZERS.search(reason) else None
    if reader:  # the library's words are then about a package for files of another kind
        return f": its tokenizer is a sentencepiece file, which is read with {reader}; {_install(reader)}"
    package = _package_in(reason)
    remedy = _install(package) if package else _remedy(reason, usual)
    return f" ({shorten(' '.join(reason.split()), 300)}); {remedy}"


def _install(package: str) -> str:
    return f"run `pip install {package}` for the Python that ComfyUI runs with"


def _remedy(reason: str, usual: str) -> str:
    if "trust_remote_code" in reason:
        return (
            "code that comes with a model is never run: use an architecture that transformers knows"
        )
    if "does not recognize this architecture" in reason:
        return "update transformers, which does not know it yet, or choose another model"
    if "Unrecognized configuration class" in reason:
        return "it is no causal language model: choose a model that writes text"
    if "available_devices" in reason:  # bitsandbytes, by an older transformers
        return "update transformers to 4.56, which quantises on a CPU too, or choose bf16"
    return usual


def _package_in(reason: str) -> str | None:
    """Return the package that the library asks for, if it is one that is not installed."""
    for found in _WANTED.finditer(reason):
        name = next(word for word in found.groups() if word).lower()
        package = _PACKAGES.get(name)
        if package and not _is_installed(name):
            return package
    return None


def _reader_of(folder: Path) -> str | None:
    """Return the package that is missing for a tokenizer that is there as a sentencepiece file alone.

    Libraries then take the file for one of another kind, and ask for that kind's package.
    """
    if (folder / "tokenizer.json").exists():
        return None
    for name in ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"):
        file = folder / name
        if file.is_file() and _first_byte(file) == b"\n":  # as its first field begins
            missing = (one for one in ("sentencepiece", "protobuf") if not _is_installed(one))
            return next(missing, None)
    return None


def _first_byte(file: Path) -> bytes:
    with open_plain(file) as opened:
        return opened.read(1)


def _is_installed(package: str) -> bool:
    name = {"protobuf": "google.protobuf", "pil": "PIL"}.get(package, package)
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of the name before the dot
        return False
