"""Where the files of a policy's base are, from which an export is made."""

from __future__ import annotations

from pathlib import Path

from ..errors import ExportError, PolicyError
from ..policies.policy import Policy
from ..unpacking.folder import is_gguf, unpack


def source_folder(policy: Policy) -> Path:
    """The folder of the base's own files; of a GGUF what it was made into, of a hub id its place in the local cache."""
    source = policy.base.source
    if Path(source).is_dir():
        return Path(source)
    if is_gguf(Path(source)):
        return _unpacked(Path(source))
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, local_files_only=True))
    except (OSError, ValueError) as error:
        raise ExportError(
            f"The files of {source!r} are no longer there; load the model again to fetch them."
        ) from error


def _unpacked(file: Path) -> Path:
    """The folder that a GGUF base was made into; made again where its weights are gone."""
    try:
        return unpack(file).folder
    except PolicyError as error:
        raise ExportError(str(error)) from error
