"""Lists the larger models that are measured on a CUDA card."""

from __future__ import annotations

from typing import Any

from benchmarks.common.models import SHAPES

PRECISIONS = ("bf16", "int8", "nf4")
_QWEN = {"model_type": "qwen2", "head_dim": 128, "vocab_size": 151936, "num_key_value_heads": 2}
MODELS: dict[str, dict[str, Any]] = {
    "Qwen2.5-0.5B": SHAPES["Qwen2.5-0.5B"],
    "Qwen2.5-1.5B": {
        **_QWEN,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
    },
    "Qwen2.5-3B": {
        **_QWEN,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
    },
    "Qwen2.5-7B": {
        **_QWEN,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
}
