"""Makes the models that are measured: the bundled starter, and random weights of real shapes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RANK = 16
# Shapes of models that people train, and of the bundled one, in the words of transformers' configurations.
SHAPES: dict[str, dict[str, Any]] = {
    "starter (4 M)": {},
    "SmolLM-135M": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "vocab_size": 49152,
    },
    "Gemma-3-270M": {
        "model_type": "gemma3_text",
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 262144,
        "sliding_window": 512,
    },
    "Qwen2.5-0.5B": {
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "vocab_size": 151936,
    },
}


def make_model(folder: Path, shape: dict[str, Any]) -> None:
    """Write a model of this shape with random weights in bf16, and the starter model's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from gdpo.policies.compat import dtype_argument
    from gdpo.starter import MODEL_DIR

    known = json.loads((MODEL_DIR / "config.json").read_text(encoding="utf-8"))
    if "hidden_size" in shape:
        known["max_position_embeddings"] = 8192
    whole = {**known, **shape}
    config = AutoConfig.for_model(whole.pop("model_type"), **whole)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, **dtype_argument(torch.bfloat16)).save_pretrained(
        folder
    )
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)


@contextmanager
def starter(precision: str, device: str) -> Iterator[tuple[Any, Any]]:
    """Lend the bundled model with a fresh adapter, and its tokenizer."""
    from gdpo.policies.loading import load_policy
    from gdpo.policies.policy import trainable
    from gdpo.starter import MODEL_DIR

    policy = load_policy(MODEL_DIR, precision=precision, device=device)
    with trainable(policy, rank=RANK, alpha=2 * RANK, seed=0) as model:
        yield model, policy.base.tokenizer


def device_name(device: str) -> str:
    """Name the card, or say cpu."""
    import torch

    return torch.cuda.get_device_name() if device != "cpu" else "cpu"


def never_ending(tokenizer: Any, model: Any) -> None:
    """Let every completion reach its full length: all but no model chooses the padding token."""
    tokenizer.eos_token = tokenizer.pad_token
    model.generation_config.eos_token_id = None
