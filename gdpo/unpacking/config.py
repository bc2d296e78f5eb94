"""A model's configuration from a GGUF file: what transformers reads of it, and what it leaves out.

Llama.cpp computes by every number in the file, transformers reads some of them and takes its own defaults for the
others: a model can then be loaded without any error and compute something else. So each key of the architecture is
read by transformers, or put right here, or known not to matter; any other is refused by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .header import Header
from .rotation import UnreadError, rotation

# Not read by transformers for some or all architectures, and put right below.
_MENDED = {
    *("attention.key_length", "attention.value_length", "attention.sliding_window"),
    "attention.layer_norm_epsilon",
    *("attention.sliding_window_pattern", "attn_logit_softcapping", "final_logit_softcapping"),
    *("context_length", "feed_forward_length", "rope.dimension_count", "rope.freq_base"),
    *("rope.freq_base_swa", "rope.scaling.type", "rope.scaling.factor"),
    *("rope.scaling.original_context_length", "rope.scaling.attn_factor"),
    *("expert_feed_forward_length", "expert_shared_feed_forward_length", "vocab_size"),
}
# Of how the model was trained or is told from others, which no number of a pass depends on; and what transformers
# tells by the tensors that are there.
_HARMLESS = {
    *("rope.scaling.finetuned", "tensor_data_layout", "source.huggingface.repository"),
    "use_parallel_residual",
}
# Gemma of 27 billion weights divides its queries by other numbers; llama.cpp knows it by its layers.
_OTHER_SCALE = {"gemma2": 46, "gemma3": 62}


def read_config(header: Header, folder: str, name: str) -> Any:
    """Return the model's configuration.

    Args:
        header: The file's header.
        folder: Where the file is.
        name: Name of the file there.

    Raises:
        UnreadError: The file asks for what would not be computed.
    """
    from transformers import AutoConfig, modeling_gguf_pytorch_utils

    if header.architecture in read_anew():
        return AutoConfig.from_pretrained(folder, gguf_file=name, local_files_only=True)
    read = modeling_gguf_pytorch_utils.load_gguf_checkpoint(f"{folder}/{name}")["config"]
    kind = read.pop("model_type")
    read.pop("_model_name_or_path", None)
    return AutoConfig.for_model(kind, **{**read, **dict(_mends(header, read))})


def check_keys(header: Header) -> None:
    """Refuse a key of the architecture that neither transformers nor this module reads.

    Raises:
        UnreadError: The message names the key.
    """
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    own = header.architecture
    if own in read_anew():  # by functions, which do not say what they read
        return
    read = {*_MENDED, *_HARMLESS}
    for table in (own, own.replace("moe", "_moe"), own.replace("-", "_")):
        read |= GGUF_CONFIG_MAPPING.get(table, {}).keys()
    keys = (key.removeprefix(f"{own}.") for key in header.entries if key.startswith(f"{own}."))
    unread = sorted(key for key in keys if key not in read)
    if unread:
        raise UnreadError(f"it sets {own}.{unread[0]}, which would not be computed by")


def read_anew() -> set[str]:
    """Architectures that newer versions of transformers read by a function of their own."""
    try:
        from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS
    except ImportError:
        return set()
    return set(GGUF_CONFIG_ARCHS)


def _mends(header: Header, read: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield entries of the configuration that the file states and transformers does not read right."""
    yield from _widths(header, read)
    yield from rotation(header)
    yield from _biases(header)
    yield from _tokens(header)
    of, own = header.of_architecture, header.architecture
    named = {
        "attn_logit_softcapping": "attn_logit_softcapping",
        "final_logit_softcapping": "final_logit_softcapping",
        "attention.sliding_window": "sliding_window",
        "expert_feed_forward_length": "moe_intermediate_size",
        "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    }
    for key, name in named.items():
        if of(key):  # 0 stands for none
            yield name, of(key)
    if own == "nemotron" and of("attention.layer_norm_epsilon"):
        yield "norm_eps", of("attention.layer_norm_epsilon")
    if own == "gpt2":
        yield "n_positions", of("context_length")
        yield "n_inner", of("feed_forward_length")
    if header.architecture.startswith(
        "qwen"
    ):  # the default is a number of layers that it need not have
        yield "max_window_layers", of("block_count")
    layers = of("block_count")
    if own in _OTHER_SCALE:
        heads = of("embedding_length") // of("attention.head_count")
        other = layers == _OTHER_SCALE[own]
        yield "query_pre_attn_scalar", heads if other else of("attention.key_length", heads)


def _tokens(header: Header) -> Iterator[tuple[str, Any]]:
    """Yield the size of the vocabulary and its special tokens."""
    for part in ("bos", "eos", "padding"):  # a default may be no token of this vocabulary
        number = header.value(f"tokenizer.ggml.{part}_token_id")
        yield f"{part[:3]}_token_id", number
    yield "vocab_size", len(header.value("tokenizer.ggml.tokens"))


def _widths(header: Header, read: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the size of a head, which need not be the model's divided by their number."""
    of = header.of_architecture
    heads = of("attention.head_count")
    if not isinstance(heads, int) or not heads:
        raise UnreadError(f"it sets {header.architecture}.attention.head_count for each layer")
    plain = of("embedding_length") // heads
    width = of("attention.key_length", plain)
    if of("attention.value_length", width) != width:
        raise UnreadError("its heads have keys and values of different sizes")
    if width != plain or "head_dim" in read or of("attention.key_length"):
        yield "head_dim", width
    turned = of("rope.dimension_count", width)
    if turned != width:
        if header.architecture not in {"stablelm", "nemotron", "phi3"}:
            raise UnreadError(f"only {turned} of {width} numbers of each head are rotated")
        yield "partial_rotary_factor", turned / width


def _biases(header: Header) -> Iterator[tuple[str, Any]]:
    """Yield the biases that Llama's layers have in some models."""
    names = {tensor.name for tensor in header.tensors}
    if header.architecture == "llama":
        yield "attention_bias", "blk.0.attn_q.bias" in names
        yield "mlp_bias", "blk.0.ffn_up.bias" in names
