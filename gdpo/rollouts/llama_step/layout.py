"""A Llama-shaped model as plain tensors and functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .norms import Norm
from .products import Layer


@dataclass(frozen=True)
class Block:
    """One layer. `qkv` gives queries, keys and values side by side; `window` counts the token itself."""

    before_attention: Norm
    qkv: Layer
    heads_norm: Norm | None  # (H + KV, D)
    out: Layer
    after_attention: Norm | None
    before_mlp: Norm
    gate_up: Layer
    activation: Layer
    down: Layer
    after_mlp: Norm | None
    scale: float
    cap: float | None
    window: int | None
    kind: str


@dataclass(frozen=True)
class Layout:
    """The whole model. `angles(kind, length)` are cosines and sines `(length, D)` of the positions."""

    embed: Layer
    embed_scale: float
    blocks: tuple[Block, ...]
    norm: Norm
    head: Layer
    heads: int
    kv_heads: int
    head_dim: int
    residual_scale: float
    logit_scale: float
    logit_cap: float | None
    angles: Callable[[str, int], tuple[Tensor, Tensor]]
    head_order: (
        Tensor | None
    )  # where the numbers of queries and keys come from, `(D,)`; None is in their order
    fused: bool  # weights are merged, and packed where the processor has a form for it
    exact: bool  # in fp32, and not quantised in the activations
