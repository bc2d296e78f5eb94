"""Whether llama.cpp's converter has a name for every tensor of a model, asked with tensors that hold nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

# What the converter says of names alone; other errors may come from weights that are all zero.
_OF_NAMES = ("Can not map tensor", "Unprocessed experts")


def ask_for_names(module: ModuleType, shapes: Mapping[str, Sequence[int]]) -> None:
    """Let the converter, loaded as `module`, name tensors of these shapes before it writes a vocabulary alone."""
    holder = sys.modules.get("conversion", module)
    base: Any = getattr(holder, "ModelBase", None)
    owner: Any = getattr(holder, "TextModel", None)
    known = all(hasattr(base, name) for name in ("index_tensors", "filter_tensors"))
    if not shapes or owner is None or not known or "conversion.base" not in sys.modules:
        return
    lazy = sys.modules["conversion.base"].LazyTorchTensor
    write = owner.write_vocab

    def index_tensors(self: Any, *_arguments: object, **_options: object) -> dict[str, Any]:
        tensors = ((name, partial(_nothing, lazy, shape)) for name, shape in shapes.items())
        return dict(filter(None, map(self.filter_tensors, tensors)))

    def write_vocab(self: Any) -> None:
        _name_all(self)
        write(self)

    base.index_tensors = index_tensors
    owner.write_vocab = write_vocab


def _nothing(lazy: Any, shape: Sequence[int]) -> Any:
    """Return a tensor of zeros that takes no memory, as the converter reads tensors from files."""
    import torch

    return lazy.from_eager(torch.zeros(()).expand(tuple(shape)))


def _name_all(model: Any) -> None:
    try:
        model.prepare_tensors()
    except Exception as error:
        if str(error).startswith(_OF_NAMES):
            raise
    finally:
        model.gguf_writer.tensors = [{}]
