"""Which GGUF files are models to train, and what each other kind is: refused before anything is made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..errors import PolicyError, shorten
from .config import check_keys, read_anew
from .header import Header, Tensor
from .rotation import UnreadError
from .tokenizer import SplitError, check_kind

# Names of llama.cpp for architectures that transformers calls otherwise.
_OTHER_NAMES = {
    "qwen2moe": ("qwen2_moe", "qwen2_moe"),
    "qwen3moe": ("qwen3_moe", "qwen3_moe"),
    "minimax-m2": ("minimax_m2", "minimax_m2"),
    "gemma3": ("gemma3", "gemma3_text"),
    "gemma4": ("gemma4", "gemma4_text"),
    "qwen35": ("qwen35", "qwen3_5_text"),
    "qwen35moe": ("qwen35moe", "qwen3_5_moe_text"),
}
# Entries of transformers' table that are no architectures of llama.cpp, or that it reads wrong: of gpt-oss, it takes
# the length of a key's name for the key's value.
_NO_NAMES = {"general", "tokenizer", "mistral", "gpt_oss"}
_KINDS = {
    "adapter": "a LoRA adapter, no whole model; choose the model that it was made for",
    "mmproj": "the part of a model that reads images, no language model; choose the file of the language model",
    "vocab": "a vocabulary without weights; choose a file with weights",
    "imatrix": "measurements for quantising a model, no model; choose the model's file",
}
_PREFIX = "MOSTLY_"


def check_kind_of_file(parts: Sequence[Header]) -> None:
    """Refuse a file that is no language model, damaged, or of an architecture that transformers does not read.

    Args:
        parts: Headers of all its files.

    Raises:
        PolicyError: The message says what it is and what to do.
    """
    header, shown = parts[0], repr(str(parts[0].path))
    kind = header.text("general.type") or "model"
    kind = "mmproj" if header.architecture == "clip" else kind
    if kind == "model" and not any(part.tensors for part in parts):
        kind = "vocab"
    if kind != "model":
        meaning = _KINDS.get(kind, f"of the type {shorten(kind, 40)}, no language model")
        raise PolicyError(f"{shown} is {meaning}.")
    _check_architecture(header)
    for part in parts:
        _check_tensors(part)
    _check_contents(header)


def supported_architectures() -> list[str]:
    """Return llama.cpp's names of the language models that the installed transformers reads from a GGUF file."""
    from transformers import modeling_gguf_pytorch_utils as reading
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as WRITERS

    tables: set[str] = {*reading.GGUF_SUPPORTED_ARCHITECTURES, *read_anew()} - _NO_NAMES
    own = {table: name for name, (table, _) in _OTHER_NAMES.items()}
    names = {own.get(table, table) for table in tables}
    writers = set(WRITERS)
    return sorted(n for n in names if _OTHER_NAMES.get(n, (n, n))[1] in writers)


def _check_architecture(header: Header) -> None:
    import transformers

    known = supported_architectures()
    if header.architecture not in known:
        raise PolicyError(
            f"{str(header.path)!r} is of the architecture {shorten(header.architecture, 40)}, which transformers "
            f"{transformers.__version__} does not read from GGUF files; these it reads: {', '.join(known)}. Choose the "
            "model's folder with config.json and *.safetensors."
        )


def _check_tensors(header: Header) -> None:
    """Refuse a file that lacks some of the bytes of its tensors, or uses some twice."""
    size = header.path.stat().st_size
    last = 0
    for tensor in sorted(header.tensors, key=lambda one: one.offset):
        if tensor.offset % header.alignment or tensor.offset < last:
            raise PolicyError(
                f"{str(header.path)!r}: its table of tensors is damaged at {shorten(tensor.name)}; download it again."
            )
        last = tensor.offset + tensor_bytes(tensor, header)
    lacking = header.data + last - size
    if lacking > 0:
        raise PolicyError(
            f"{str(header.path)!r} is cut off: {lacking} of the {header.data + last} bytes that it should have are "
            "missing; download it again."
        )


def tensor_bytes(tensor: Tensor, header: Header | None = None) -> int:
    """Return how many bytes a tensor takes in the file.

    Raises:
        PolicyError: Its type cannot be read, or does not fit its shape.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    where = f"{str(header.path)!r}: its" if header else "A"
    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
    except (ValueError, KeyError):
        raise PolicyError(
            f"{where} tensor {shorten(tensor.name)} is of the type {tensor.kind}, which the installed gguf package "
            "does not know; update it with `pip install -U gguf`, or choose another quantisation."
        ) from None
    if (tensor.shape[0] if tensor.shape else 1) % block:
        raise PolicyError(
            f"{where} tensor {shorten(tensor.name)} has rows of {tensor.shape[0]}, no multiple of {block}."
        )
    return tensor.elements // block * size


def _check_contents(header: Header) -> None:
    """Refuse a vocabulary, or numbers of the architecture, that would not be read right."""
    tokens: Any = header.value("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(t, str) for t in tokens):
        raise PolicyError(
            f"{str(header.path)!r} holds no vocabulary (tokenizer.ggml.tokens); choose a whole model."
        )
    try:
        check_kind(header)
        check_keys(header)
    except (SplitError, UnreadError) as error:
        raise PolicyError(
            f"{str(header.path)!r} cannot be used: {error}; choose the model's folder with config.json, tokenizer.json "
            "and *.safetensors."
        ) from error


def quantisation(parts: Sequence[Header]) -> str:
    """Return the name of the file's type, such as Q4_K_M; that of most weights where it has none."""
    from gguf import GGMLQuantizationType, LlamaFileType

    number = parts[0].value("general.file_type")
    named = {int(one): one.name for one in LlamaFileType}
    if isinstance(number, int) and number in named:
        return named[number].removeprefix(_PREFIX).removeprefix("ALL_")
    counts: Counter[int] = Counter()
    for tensor in (tensor for part in parts for tensor in part.tensors):
        counts[tensor.kind] += tensor.elements
    return GGMLQuantizationType(counts.most_common(1)[0][0]).name
