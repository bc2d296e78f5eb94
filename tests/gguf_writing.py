"""GGUF files for tests: split by the library that llama.cpp itself uses, changed, and written byte by byte."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

NUMBER, TEXT, TEXTS = 4, 8, 9


def text(value: str) -> bytes:
    """A text as the file has it."""
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key: str, value: Any) -> bytes:
    """A key with a whole number, a text or a list of texts."""
    if isinstance(value, int):
        return text(key) + struct.pack("<II", NUMBER, value)
    if isinstance(value, str):
        return text(key) + struct.pack("<I", TEXT) + text(value)
    inner = struct.pack("<IQ", TEXT, len(value)) + b"".join(map(text, value))
    return text(key) + struct.pack("<I", TEXTS) + inner


def whole_file(entries: dict[str, Any], tensors: dict[str, tuple[int, ...]] | None = None) -> bytes:
    """A file with these entries, and with tensors of float32 zeros of these shapes."""
    tensors = tensors or {}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries))
    head += b"".join(entry(key, value) for key, value in entries.items())
    offset = 0
    for name, shape in tensors.items():
        head += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", 0, offset)
        size = 4
        for length in shape:
            size *= length
        offset += -(-size // 32) * 32
    return head.ljust(-(-len(head) // 32) * 32, b"\0") + bytes(offset)


def rewritten(
    source: Path, target: Path, *, drop: tuple[str, ...] = (), tensors: int = 0, **changes: Any
) -> Path:
    """The file written anew by the gguf library.

    Args:
        source: Any GGUF file.
        target: Where it goes; of a split one the name without the parts' numbers.
        drop: Names of tensors that are left out.
        tensors: Tensors in each part; 0: one file.
        changes: Values of keys, with `__` for each dot; None takes one out.
    """
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture, split_max_tensors=tensors)
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in {*changes, "general.architecture"}:
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(key, field.contents(), field.types[0], inner)
    for key, value in changes.items():
        if key == "general.architecture":
            writer.kv_data[0][key].value = value
        elif value is not None:
            writer.add_key_value(key, value, GGUFValueType.get_type(value))
    for tensor in reader.tensors:
        if tensor.name not in drop:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
