"""Where a model is: a folder, a GGUF file that is made into one, or a hub id in the local cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ..errors import PolicyError, shorten
from ..unpacking.folder import is_gguf, naming, unpack
from .digest import digest_folder, digest_texts
from .folder_kinds import check_no_file

# Of a hub repository, what `from_pretrained` reads: not the same weights in other formats and folders.
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
_NOT_HUB_FILES = ["consolidated*", "*/*"]


def content_sums(
    source: str, folder: Path, poll: Callable[[], None]
) -> tuple[str, Mapping[str, str]]:
    """Return what stands for the content of the model's weights, and of its tokenizer."""
    if _is_file(source):
        found = unpack(Path(source), poll)
        return found.digest, found.texts
    return digest_folder(folder), digest_texts(folder)


def _is_file(source: str) -> bool:
    return is_gguf(Path(source)) and Path(source).is_file()


def naming_source(source: str | Path, folder: Path) -> AbstractContextManager[None]:
    """Let errors inside the block name a GGUF file, and not the temporary folder that was made of it."""
    return naming(Path(source), folder) if _is_file(str(source)) else nullcontext()


def resolve_source(model: str | Path) -> str:
    """Return the path of a folder or GGUF file, or the hub id, that a model is given by.

    Raises:
        PolicyError: It is a path, and nothing that can be loaded is there.
    """
    folder = Path(model)
    check_no_file(folder)
    if _is_file(str(folder)):
        return str(folder)
    if not folder.is_dir():
        if isinstance(model, Path) or folder.is_absolute() or str(model).startswith("."):
            raise PolicyError(f"There is no model folder {str(model)!r}; check the path.")
        return str(model)
    return str(folder)


def find_folder(source: str, allow_download: bool, poll: Callable[[], None] = lambda: None) -> Path:
    """The model's folder; of a GGUF file, what it is made into; of a hub id, its place in the local cache.

    Libraries are given folders only: with a hub id some of them ask the hub whatever they are told.

    Raises:
        PolicyError: A hub id is not in the cache and may not or cannot be fetched; a GGUF file is no model to train.
    """
    if _is_file(source):
        return unpack(Path(source), poll).folder
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                source,
                local_files_only=not allow_download,
                allow_patterns=_HUB_FILES,
                ignore_patterns=_NOT_HUB_FILES,
            )
        )
    except Exception as error:  # of many classes: network, access, cache
        remedy = (
            "check the hub id and the network"
            if allow_download
            else "it is neither a folder nor in the local cache, and downloads are switched off"
        )
        reason = shorten(" ".join(f"{type(error).__name__}: {error}".split()), 300)
        raise PolicyError(
            f"The files of {source!r} cannot be loaded: {remedy} ({reason})."
        ) from error
