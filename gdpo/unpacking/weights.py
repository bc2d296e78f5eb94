"""The weights of a GGUF file, in the form that transformers reads them from: as `gguf.GGUFReader` gives them.

That class makes several objects for each word of a vocabulary, which takes a minute for a large one, and trusts every
number in the file. This one is made from a header that was read within bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .header import Entry, Header, Tensor

_ARRAY, _STRING, _FLOAT64, _UINT32 = 9, 8, 12, 4
_IDS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "unknown"))
_PLAIN = {"F32": np.float32, "F16": np.float16, "F64": np.float64}
_WHOLE = {"I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64}


class Field(NamedTuple):
    """A key's value: `parts[i]` for each `i` in `data`, of the types in `types`."""

    name: str
    parts: Sequence[Any]
    data: Sequence[int]
    types: list[int]


class Weights(NamedTuple):
    """A tensor as it is in the file; of packed ones the bytes."""

    name: str
    tensor_type: Any
    shape: Any
    data: np.ndarray


class Reader:
    """Stands in for `gguf.GGUFReader`."""

    def __init__(self, header: Header, *, words: bool) -> None:
        """Give what the header says; tensors are mapped, and read when they are used.

        Args:
            header: The file's header.
            words: Whether the lists of the vocabulary are among the fields; reading them takes long.
        """
        entries = header.entries.items()
        kept = (key for key, entry in entries if words or not _is_of_words(key, entry))
        self.fields = {key: _field(header, key) for key in kept}
        for key in (
            _IDS if words else ()
        ):  # older versions fall over what is not there; its use is put right later
            self.fields.setdefault(key, Field(key, [(0,)], [0], [_UINT32]))
        self.tensors = [weights_of(header, tensor) for tensor in header.tensors]


def _is_of_words(key: str, entry: Entry) -> bool:
    return key.startswith("tokenizer.") and entry.kind == _ARRAY


def weights_of(header: Header, tensor: Tensor) -> Weights:
    """Map one tensor of the file."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quant_shape_to_byte_shape

    kind = GGMLQuantizationType(tensor.kind)
    shape = tuple(reversed(tensor.shape))
    dtype = {**_PLAIN, **_WHOLE}.get(kind.name, np.uint8)
    if dtype is np.uint8:
        shape = quant_shape_to_byte_shape(shape, kind)
    data = np.memmap(header.path, dtype, "r", header.data + tensor.offset, shape)
    return Weights(tensor.name, kind, tensor.shape, data)


def dense(header: Header, name: str) -> np.ndarray | None:
    """Return a tensor's values, row after row; None where the file has none of the name."""
    from gguf import dequantize

    found = next((tensor for tensor in header.tensors if tensor.name == name), None)
    if found is None:
        return None
    weights = weights_of(header, found)
    return np.asarray(dequantize(weights.data, weights.tensor_type))


def _field(header: Header, key: str) -> Field:
    value, kind = header.value(key), header.entries[key].kind
    if kind != _ARRAY:
        return Field(key, [_part(value)], [0], [kind])
    texts = bool(value) and isinstance(value[0], str)
    # Numbers of an array are read from its parts one by one, whole or not.
    whole = not texts and all(isinstance(one, int) for one in value)
    inner = _STRING if texts else 11 if whole else _FLOAT64
    if value and isinstance(value[0], bool):
        inner = 7
    return Field(key, [_part(one) for one in value], range(len(value)), [kind, inner])


def _part(value: Any) -> Any:
    return np.frombuffer(value.encode(), np.uint8) if isinstance(value, str) else (value,)
