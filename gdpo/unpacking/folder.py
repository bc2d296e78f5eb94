"""The folder that a GGUF file becomes: config.json, the tokenizer's files and the weights, dequantised.

It lies among the temporary files for as long as this process lives. Of all folders but the last one the weights are
removed when another is made; whoever wants them again gets them made again.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from tempfile import gettempdir

from ..errors import GDPOError, PolicyError
from ..scratch import scratch_folder
from ..workers.process import run_worker
from .header import Header
from .kinds import check_kind_of_file, quantisation
from .parts import is_gguf, join_parts, read_parts
from .sums import digest_parts, digest_words

_WORKER = Path(__file__).with_name("worker.py")
_PREFIX = "gdpo-gguf-"
# Above this many weights float32 would take over 12 GB on the disk and twice that in memory; as exports do.
_FLOAT32_WEIGHTS = 3_000_000_000
# Numbers of ggml's types F32, F16 and BF16.
_EXACT_KINDS = {0, 1, 30}
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# What making the folder takes beside the weights, which are held twice for a while.
_MEMORY, _MEMORY_PER_BYTE, _COPIES = 2 * 2**30, 64, 2
_SECONDS, _WEIGHTS_PER_SECOND = 600, 500_000

_lock = threading.RLock()
_holds = ExitStack()
_made: dict[tuple, Unpacked] = {}


@dataclass(frozen=True)
class Unpacked:
    """A GGUF file and the folder that it became.

    Attributes:
        source: The file; of a split model the one that was named.
        folder: The model's folder, in the form of Hugging Face.
        digest: Stands for the content of the file or files.
        texts: Sums of the tokenizer and of the chat template, by name.
    """

    source: Path
    folder: Path
    digest: str
    texts: Mapping[str, str]


def describe(path: Path) -> tuple[str, bool]:
    """Return what a GGUF file holds and becomes, in words, and whether llama.cpp computes by it without rounding.

    It rounds what it multiplies packed weights with to 8 bits. The header tells this; nothing is made.
    """
    parts = read_parts(path)
    kinds = {tensor.kind for part in parts for tensor in part.tensors}
    words = f"{parts[0].architecture}, {quantisation(parts)}, dequantised to {_dtype(parts)}"
    return words, kinds <= _EXACT_KINDS


def unpack(path: Path, poll: Callable[[], None] = lambda: None) -> Unpacked:
    """Make the folder of a GGUF file, unless this process has made it already.

    Args:
        path: The file, or any part of a split one.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        PolicyError: The file is no model that can be trained, or there is too little space; the message says which.
    """
    with _lock:
        known = _known(path)
        if known and any(known.folder.glob("*.safetensors")):
            return known
        parts = read_parts(path)
        check_kind_of_file(parts)
        dtype = _dtype(parts)
        _check_space(parts, dtype)
        _drop_weights()
        if known is None:
            known = _start(path, parts)
        with naming(path, known.folder):
            _fill(parts, known.folder, dtype, poll)
        _made[tuple(_stamp(part.path) for part in parts)] = known
        return known


def _known(path: Path) -> Unpacked | None:
    """Return what was made of a file, of which no part has changed since."""
    wanted = str(path.absolute())
    for stamps, one in _made.items():
        with suppress(OSError):  # a part that is gone
            files = [file for file, *_ in stamps]
            if wanted in files and all(
                _stamp(Path(f)) == s for f, s in zip(files, stamps, strict=True)
            ):
                return one
    return None


@contextmanager
def naming(source: Path, folder: Path) -> Iterator[None]:
    """Let errors inside the block name the GGUF file, and not the temporary folder that was made of it."""
    try:
        yield
    except GDPOError as error:
        raise type(error)(str(error).replace(str(folder), str(source))) from error


def _start(path: Path, parts: Sequence[Header]) -> Unpacked:
    try:
        folder = _holds.enter_context(scratch_folder(_PREFIX))
    except OSError as error:
        raise PolicyError(
            f"{str(path)!r} cannot be unpacked: the folder for temporary files cannot be written ({error.strerror}); "
            "free space in it, or set TMPDIR to another folder."
        ) from error
    model = folder / "model"
    model.mkdir()
    return Unpacked(path, model, digest_parts(parts), digest_words(parts[0]))


def _fill(parts: Sequence[Header], folder: Path, dtype: str, poll: Callable[[], None]) -> None:
    weights = sum(part.weights for part in parts)
    source, joined = parts[0].path, folder.parent / "joined.gguf"
    size = len(parts[0].bytes)
    try:
        if len(parts) > 1:
            join_parts(parts, joined, poll)
            source = joined
        request = {
            "task": f"Reading {str(parts[0].path)!r}",
            "gguf": str(source.absolute()),
            "folder": str(folder),
            "dtype": dtype,
            "memory": _MEMORY + _MEMORY_PER_BYTE * size + 3 * weights * _BYTES["float32"],
            "seconds": _SECONDS + weights // _WEIGHTS_PER_SECOND,
        }
        run_worker(_WORKER, request, poll=poll, error=PolicyError)
    except OSError as error:
        raise PolicyError(
            f"{str(parts[0].path)!r} cannot be unpacked ({error.strerror or error}); free space in {gettempdir()!r}, or "
            "set TMPDIR to another folder."
        ) from error
    finally:
        joined.unlink(missing_ok=True)


def _drop_weights() -> None:
    for one in _made.values():
        for file in one.folder.glob("*.safetensors"):
            with suppress(OSError):  # Windows: it is still in use
                file.unlink()


def _dtype(parts: Sequence[Header]) -> str:
    """Return the type that the weights are written in: exact but for large models."""
    if sum(part.weights for part in parts) <= _FLOAT32_WEIGHTS:
        return "float32"
    return "float16" if quantisation(parts) == "F16" else "bfloat16"


def _check_space(parts: Sequence[Header], dtype: str) -> None:
    import psutil

    size = sum(part.weights for part in parts) * _BYTES[dtype]
    joined = sum(part.path.stat().st_size for part in parts) if len(parts) > 1 else 0
    wanted = {
        "memory": (_COPIES * size, psutil.virtual_memory().available, "free memory"),
        f"space in {gettempdir()!r}": (
            size + joined,
            disk_usage(gettempdir()).free,
            "free space there, set TMPDIR to another folder",
        ),
    }
    for what, (need, free, remedy) in wanted.items():
        if need > free:
            raise PolicyError(
                f"{str(parts[0].path)!r} takes {need / 2**30:.1f} GiB of {what} for a while as {dtype}, and "
                f"{free / 2**30:.1f} are free; {remedy} or choose a smaller model."
            )


def _stamp(path: Path) -> tuple:
    found = path.stat()
    return str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ino


atexit.register(_holds.close)

__all__ = ["Unpacked", "is_gguf", "naming", "unpack"]
