"""Reads a Llama-shaped model as plain tensors and functions, or finds that it is of another shape.

Llama, Mistral, Qwen 2 and 3, Gemma 1 to 3, Phi-3, Granite and their relatives differ in few things: fused
projections, biases, norms of heads, norms after a block, windows, caps and multipliers. What is read here is
a guess about a class of models; `blocks.BlockDecoder` is only used where it computes what the model computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...policies.adapter import innermost
from ...policies.compat import embedding_scale
from ...policies.precision import has_int8_layers
from .layout import Block, Layout
from .norms import OtherShapeError, read_heads_norm, read_norm
from .products import joined, worth_copying

_DECODER = {"embed_tokens", "layers", "norm", "rotary_emb", "rotary_emb_local"}
_LAYER = {
    "self_attn",
    "mlp",
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
    "resid_attn_dropout",
    "resid_mlp_dropout",
}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "q_norm", "k_norm", "rotary_emb"}
_MLP = {"gate_proj", "up_proj", "gate_up_proj", "down_proj", "act_fn", "activation_fn"}
# Their angles do not change with the length of the text.
_ROTARIES = {"default", "linear", "llama3", "yarn"}


def read_layout(model: Any) -> Layout:
    """Read the model.

    Raises:
        OtherShapeError: It has parts that are not known here, or lacks some.
    """
    try:
        return _read(innermost(model))
    except (AttributeError, TypeError) as error:
        raise OtherShapeError(str(error)) from error


def _read(inner: Any) -> Layout:
    decoder, config = inner.get_decoder(), inner.config.get_text_config()
    _expect(decoder, _DECODER)
    if decoder is inner or not hasattr(decoder, "layers"):
        raise OtherShapeError("decoder")
    fuse = worth_copying(inner)
    kinds = _kinds(config, len(decoder.layers))
    dim = decoder.layers[0].self_attn.head_dim
    # Pairs that are turned together lie side by side: one complex product turns them.
    order = torch.arange(dim).view(2, -1).t().flatten() if fuse and dim % 2 == 0 else None
    blocks = tuple(
        _block(layer, config, kind, fuse, order)
        for layer, kind in zip(decoder.layers, kinds, strict=True)
    )
    return Layout(
        embed=decoder.embed_tokens,
        embed_scale=embedding_scale(decoder, config),
        blocks=blocks,
        norm=read_norm(decoder.norm),
        head=joined([inner.get_output_embeddings()], fuse),
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=dim,
        residual_scale=getattr(config, "residual_multiplier", 1.0),
        logit_scale=1.0 / (getattr(config, "logits_scaling", 1.0) or 1.0),
        logit_cap=getattr(config, "final_logit_softcapping", None),
        angles=_angles(decoder, dim),
        head_order=order,
        fused=fuse,
        exact=inner.dtype == torch.float32 and not has_int8_layers(inner),
    )


def _block(layer: Any, config: Any, kind: str, fuse: bool, order: Tensor | None) -> Block:
    attention, mlp = layer.self_attn, layer.mlp
    for part, known in ((layer, _LAYER), (attention, _ATTENTION), (mlp, _MLP)):
        _expect(part, known)
    _check_widths(attention, mlp, config)
    sandwich = hasattr(layer, "pre_feedforward_layernorm")
    before_mlp = layer.pre_feedforward_layernorm if sandwich else layer.post_attention_layernorm
    return Block(
        before_attention=read_norm(layer.input_layernorm),
        qkv=joined(
            _parts(attention, "qkv_proj", "q_proj", "k_proj", "v_proj"),
            fuse,
            None if order is None else _row_order(config, order),
        ),
        heads_norm=read_heads_norm(attention, config, order),
        out=joined([attention.o_proj], fuse),
        after_attention=read_norm(layer.post_attention_layernorm) if sandwich else None,
        before_mlp=read_norm(before_mlp),
        gate_up=joined(_parts(mlp, "gate_up_proj", "gate_proj", "up_proj"), fuse),
        activation=getattr(mlp, "act_fn", None) or mlp.activation_fn,
        down=joined([mlp.down_proj], fuse),
        after_mlp=read_norm(layer.post_feedforward_layernorm) if sandwich else None,
        scale=float(attention.scaling),
        cap=getattr(attention, "attn_logit_softcapping", None),
        window=config.sliding_window if kind == "sliding_attention" else None,
        kind=kind,
    )


def _kinds(config: Any, layers: int) -> list[str]:
    """For each layer, whether it sees everything before it or a window."""
    window = getattr(config, "sliding_window", None)
    # Mistral and Phi-3 have windows in all layers whenever they have one; Qwen switches them off apart.
    everywhere = window and getattr(config, "use_sliding_window", True)
    plain = "sliding_attention" if everywhere else "full_attention"
    kinds = list(getattr(config, "layer_types", None) or [plain] * layers)
    if config.model_type in {"mistral", "phi3"}:
        kinds = [plain] * layers
    if not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise OtherShapeError("layer types")
    return kinds


def _row_order(config: Any, order: Tensor) -> Tensor:
    """Tell where the rows of queries, keys and values come from, when heads are in `order`."""
    turned = config.num_attention_heads + config.num_key_value_heads
    starts = torch.arange(turned + config.num_key_value_heads)[:, None] * len(order)
    plain = torch.arange(len(order)).expand(config.num_key_value_heads, -1)
    return (starts + torch.cat([order.expand(turned, -1), plain])).flatten()


def _angles(decoder: Any, dim: int) -> Callable[[str, int], tuple[Tensor, Tensor]]:
    def compute(kind: str, length: int) -> tuple[Tensor, Tensor]:
        rotary, local = decoder.rotary_emb, getattr(decoder, "rotary_emb_local", None)
        types = getattr(rotary, "rope_type", "default")
        several = isinstance(types, dict)
        if not (set(types.values()) if several else {types}) <= _ROTARIES:
            raise OtherShapeError("rotary embedding")
        if local is not None and kind == "sliding_attention":
            rotary = local
        weight = decoder.norm.weight
        positions = torch.arange(length, device=weight.device)[None]
        cos, sin = rotary(weight, positions, *([kind] if several else []))
        if cos.shape[-1] != dim:
            raise OtherShapeError("partial rotary embedding")
        return cos[0], sin[0]

    return compute


def _parts(module: Any, fused: str, *names: str) -> list[Any]:
    return [getattr(module, name) for name in ([fused] if hasattr(module, fused) else names)]


def _expect(module: Any, known: set[str]) -> None:
    unknown = {name for name, _ in module.named_children()} - known
    if unknown:
        raise OtherShapeError(", ".join(sorted(unknown)))


def _check_widths(attention: Any, mlp: Any, config: Any) -> None:
    inside = config.num_attention_heads * attention.head_dim
    kept = config.num_key_value_heads * attention.head_dim
    qkv = _parts(attention, "qkv_proj", "q_proj", "k_proj", "v_proj")
    gate_up = _parts(mlp, "gate_up_proj", "gate_proj", "up_proj")
    widths = sum(layer.out_features for layer in qkv), sum(layer.out_features for layer in gate_up)
    if widths != (inside + 2 * kept, 2 * mlp.down_proj.in_features):
        raise OtherShapeError("widths")
