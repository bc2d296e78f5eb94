"""What a pass through a model allocates, found by running the pass itself without any memory.

The model is built on torch's `meta` device, where tensors have shapes and no contents, and every storage that the
pass makes is counted while it lives. So there are no formulas to go wrong for an architecture, and a change of
the update changes its estimate. Tensors of whole numbers (tokens, masks) are real: what is looked up in them is
needed to run. Not seen is what a kernel takes for itself inside one operation.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ..policies.compat import autocast_on_meta


class AllocationTrace(TorchDispatchMode):
    """Counts the bytes of the meta tensors that are made while it is on.

    Attributes:
        live: Bytes now, of `logits` (last side as long as the vocabulary) and of `others`.
        peak: `live` at the moment of its largest sum.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self._vocabulary = vocabulary
        self._known: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()
        self.live = {"logits": 0, "others": 0}
        self.peak = dict(self.live)

    def ignore(self, tensors: Iterator[Tensor]) -> None:
        """Do not count these, which were there before."""
        for tensor in tensors:
            self._known[tensor.untyped_storage()] = None

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        found = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        if any(map(_is_meta, found)):
            return self._run(func, found, args, kwargs)
        result = func(*args, **kwargs)
        self._count(result)  # made on the meta device out of nothing
        return result

    def _run(self, func: Any, found: list[Tensor], args: Any, kwargs: dict[str, Any]) -> Any:
        name, device = func._schema.name, kwargs.get("device")
        if name == "aten::_local_scalar_dense":
            return 0.0 if found[0].is_floating_point() else 0
        if name == "aten::_to_copy" and device is not None and torch.device(device).type != "meta":
            return torch.zeros(found[0].shape, dtype=kwargs.get("dtype") or found[0].dtype)
        if func._schema.is_mutable and not _is_meta(found[0]):
            return args[0]  # a real tensor that something of unknown value is added to
        if name == "aten::index":
            args = (args[0], _places(args[1]))
        args, kwargs = tree_map_only(Tensor, lambda t: t.to("meta"), (args, kwargs))
        result = func(*args, **kwargs)
        self._count(result)
        return result

    def _count(self, result: Any) -> None:
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _is_meta(tensor):
                storage = tensor.untyped_storage()
                if storage not in self._known:
                    self._known[storage] = None
                    is_logits = tensor.dim() > 0 and tensor.shape[-1] == self._vocabulary
                    self._add("logits" if is_logits else "others", storage)

    def _add(self, kind: str, storage: Any) -> None:
        size = storage.nbytes()
        self.live[kind] += size
        weakref.finalize(storage, self._remove, kind, size)
        if sum(self.live.values()) > sum(self.peak.values()):
            self.peak = dict(self.live)

    def _remove(self, kind: str, size: int) -> None:
        self.live[kind] -= size


@contextmanager
def tracing(model: Any, vocabulary: int) -> Iterator[AllocationTrace]:
    """Count what the meta `model` allocates in forward and backward inside the block."""
    trace = AllocationTrace(vocabulary)
    trace.ignore(model.parameters())
    trace.ignore(model.buffers())
    with autocast_on_meta(), _fused_attention(), trace:
        yield trace


class MetaLinear(torch.nn.Linear):
    """Stands in for a quantised linear layer: it allocates for a moment what the real one does.

    The kernels of bitsandbytes unpack the weights to the inputs' type, in the backward pass too; that for int8
    also rounds the inputs, which a CPU multiplies in fp32 where it has no instructions for it.
    """

    def __init__(self, linear: torch.nn.Linear, precision: str) -> None:
        super().__init__(
            linear.in_features, linear.out_features, linear.bias is not None, device="meta"
        )
        self.to(linear.weight.dtype).requires_grad_(False)
        self._rounds_inputs = precision == "int8"

    def forward(self, input: Tensor) -> Tensor:
        """Return an output of the right shape; nothing is kept for the backward pass but the layer itself."""
        return _Unpacked.apply(input, self.weight, self._rounds_inputs)


class _Unpacked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, rounds_inputs: bool) -> Tensor:
        ctx.weight = weight
        rows = inputs.flatten(0, -2)
        if rounds_inputs:
            whole = rows.new_empty(len(rows), len(weight), dtype=torch.int32)
            rounded = rows.to(torch.float16).to(torch.int8)
            scaled = whole * rows.new_empty(len(rows), 1)
            del whole, rounded, scaled
        else:
            torch.empty_like(weight)
        return inputs.new_empty(*inputs.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  one gradient an output
        return gradients @ torch.empty_like(ctx.weight), None, None


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Puts the memory of a fused attention kernel in the place of the plain formula, which meta tensors take."""

    def attend(query: Tensor, key: Tensor, value: Tensor, *_: Any, **_options: Any) -> Tensor:
        return _Fused.apply(query, key, value)

    library = torch.library.Library("aten", "IMPL")  # for meta tensors alone
    library.impl("scaled_dot_product_attention", attend, "AutogradMeta")
    try:
        yield
    finally:
        library._destroy()


class _Fused(torch.autograd.Function):
    """Keeps its inputs, its output and one number for each query, as FlashAttention does."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        # The layout of the kernels' outputs, in which joining the heads needs no copy.
        shape = (query.shape[0], query.shape[2], query.shape[1], value.shape[-1])
        output = query.new_empty(shape).transpose(1, 2)
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, sums)
        return output

    @staticmethod
    def backward(ctx: Any, _gradients: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  one gradient an output
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


def _is_meta(tensor: Tensor) -> bool:
    return tensor.device.type == "meta"


def _places(indices: list[Tensor | None]) -> list[Tensor | None]:
    """Masks as the places that they mark, so that the result's shape is known."""
    places: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool and not _is_meta(index):
            places += index.nonzero().unbind(1)
        else:
            places.append(index)
    return places
