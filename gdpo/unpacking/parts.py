"""The files of one model: most GGUF models are one file, large ones may be split into several."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import PolicyError, shorten
from ..plain_files import open_plain
from .cursor import HeaderError
from .header import Header, Tensor, header_bytes, read_header

_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_SPLIT = ("split.no", "split.count", "split.tensors.count")
_MAX_PARTS = 1000
_COPIED_BYTES = 64 * 2**20


def is_gguf(path: Path) -> bool:
    """Tell whether a path has the name of a GGUF file."""
    return path.suffix.lower() == ".gguf"


def is_later_part(name: str) -> bool:
    """Tell whether a file's name is that of a part which is not the first."""
    found = _NAME.fullmatch(name)
    return bool(found) and int(found.group(2)) != 1


def read_parts(path: Path) -> tuple[Header, ...]:
    """Read the headers of all files of the model that a file belongs to, in their order.

    Args:
        path: A single file, or any part.

    Raises:
        PolicyError: One of them is absent, cannot be read, or is of another model.
    """
    header = _read(path)
    count = header.value("split.count", 0)
    if not isinstance(count, int) or not 0 <= count <= _MAX_PARTS:
        raise PolicyError(f"{str(path)!r} says that it is one of {shorten(count)} parts.")
    if count <= 1:
        return (header,)
    found = _NAME.fullmatch(path.name)
    if found is None or int(found.group(3)) != count:
        raise PolicyError(
            f"{str(path)!r} is one of {count} parts of a model and has been renamed; parts are found by names such as "
            f"'model-00001-of-{count:05d}.gguf': give them their names back."
        )
    names = [f"{found.group(1)}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]
    gone = [name for name in names if not (path.parent / name).is_file()]
    if gone:
        raise PolicyError(
            f"{str(path)!r} is one of {count} parts of a model, and {len(gone)} of them are not beside it: "
            f"{shorten(', '.join(gone), 200)}; download them into the same folder."
        )
    parts = tuple(_read(path.parent / name) for name in names)
    _check_parts(parts)
    return parts


def _read(path: Path) -> Header:
    try:
        with open_plain(path) as file:
            return read_header(path, file.read(header_bytes()), path.stat().st_size)
    except HeaderError as error:
        raise PolicyError(f"{str(path)!r} cannot be used: {error}.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise PolicyError(
            f"{str(path)!r} cannot be read ({shorten(reason, 120)}); check the path and its permissions."
        ) from error


def _check_parts(parts: Sequence[Header]) -> None:
    total, names = parts[0].value("split.tensors.count"), set()
    for number, part in enumerate(parts):
        if part.value("split.no") != number or part.value("split.count") != len(parts):
            raise PolicyError(
                f"{str(part.path)!r} says that it is another part than its name says; download the parts again."
            )
        names |= {tensor.name for tensor in part.tensors}
    held = sum(len(part.tensors) for part in parts)
    if held != len(names) or total not in (None, held):
        raise PolicyError(
            f"The {len(parts)} parts of {str(parts[0].path)!r} hold {len(names)} tensors and should hold "
            f"{shorten(total)}; download all parts of one model."
        )


def join_parts(parts: Sequence[Header], target: Path, poll: Callable[[], None]) -> None:
    """Write one file with the weights of all parts.

    Args:
        parts: From `read_parts`.
        target: The file to write.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        OSError: It cannot be written.
    """
    first = parts[0]
    kept = [key for key in first.entries if key not in _SPLIT]
    moved = list(_moved(parts))
    with target.open("wb") as output:
        output.write(b"GGUF" + struct.pack("<IQQ", 3, len(moved), len(kept)))
        for key in kept:
            output.write(first.raw(key))
        for _, tensor, _ in moved:
            output.write(_info(tensor))
        start = _aligned(output.tell(), first.alignment)
        for part, tensor, place in moved:
            poll()
            output.seek(start + tensor.offset)
            _copy(part, place, output)
        output.truncate(max(output.tell(), start))


def _moved(parts: Sequence[Header]) -> Iterator[tuple[Header, Tensor, tuple[int, int]]]:
    """Yield each tensor as it is in the joined file, with its part, and its first and last byte there."""
    from .kinds import tensor_bytes

    offset = 0
    for part in parts:
        for tensor in part.tensors:
            size, start = tensor_bytes(tensor), part.data + tensor.offset
            yield part, tensor._replace(offset=offset), (start, start + size)
            offset = _aligned(offset + size, parts[0].alignment)


def _info(tensor: Tensor) -> bytes:
    name = tensor.name.encode()
    shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
    return struct.pack("<Q", len(name)) + name + shape + struct.pack("<IQ", *tensor[2:])


def _copy(part: Header, place: tuple[int, int], output: object) -> None:
    with open_plain(part.path) as file:
        file.seek(place[0])
        left = place[1] - place[0]
        while left:
            data = file.read(min(left, _COPIED_BYTES))
            if not data:
                raise OSError(f"{part.path.name} has become shorter")
            output.write(data)  # type: ignore[attr-defined]
            left -= len(data)


def _aligned(place: int, alignment: int) -> int:
    return -(-place // alignment) * alignment
