"""Tiny random models of the families of language models that transformers has, with a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from scripts.tiny_families import ALSO, ENDS, LATENT, PIECES, PUBLISHED, TOKENS
from scripts.tiny_tokenizers import byte_pairs, pieces

# What makes a model tiny: each is set where the family's configuration has it.
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "word_embed_proj_dim"), 64),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "d_ff"), 128),
    **dict.fromkeys(("decoder_ffn_dim", "moe_intermediate_size", "encoder_ffn_dim"), 64),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers"), 2
    ),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "encoder_layers"), 2),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 256),
    "head_dim": 16,
    "rotary_dim": 8,
    "sliding_window": 64,
    **dict.fromkeys(("n_group", "num_expert_group", "topk_group"), 1),
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 16),
    **dict.fromkeys(("linear_num_value_heads", "linear_num_heads"), 4),
    "linear_num_key_heads": 2,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
    "is_decoder": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


# Weights that differ by less were drawn like that, or are all the same; others are a schedule, such as a decay.
_FRESH = 0.1


def save_tiny(kind: str, folder: Path) -> None:
    """Write a tiny random model of a family, with a tokenizer that its converter can read."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    text: Any = AutoConfig.for_model(kind).get_text_config()
    tokenizer = pieces() if text.model_type in PIECES else byte_pairs()
    tokenizer.add_tokens(TOKENS.get(text.model_type, []), special_tokens=True)
    config = type(text)(**tiny_settings(text), vocab_size=len(tokenizer))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    _wear(model)
    known = tokenizer.get_vocab()
    ends = [known[name] for name in ENDS if name in known]
    if model.generation_config is not None:
        model.generation_config.eos_token_id = [tokenizer.eos_token_id, *ends]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # Some families read the same file by a rule of their own, and write that into it.
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content |= PUBLISHED.get(text.model_type, {})
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")


@torch.no_grad()
def _wear(model: Any) -> None:
    """Make fresh weights like trained ones: sharper, and without zeros and ones that would hide what is done to them.

    A norm of ones hides that it is misread, a router of zeros leaves its choice to rounding, and a padding row of zeros
    has no gradient in some norms.
    """
    for parameter in (one for one in model.parameters() if one.is_floating_point()):
        fresh = parameter.numel() < 2 or float(parameter.float().std()) < _FRESH
        if parameter.dim() > 1 and fresh:
            parameter.mul_(3.0).add_(torch.randn_like(parameter), alpha=0.02)
        elif fresh:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)


def tiny_settings(text: Any) -> dict[str, Any]:
    """Return what makes models of a configuration's type tiny."""
    entries = text.to_dict()
    known = {name: value for name, value in SMALL.items() if name in entries}
    # Of latent attention a head's size is only what is turned, and each head has its own keys.
    if "kv_lora_rank" in known:
        known |= {name: value for name, value in LATENT.items() if name in known}
    if isinstance(kinds := entries.get("layer_types"), list):
        # As many layers as it takes for each kind to come, for the order of them is the family's own.
        last = max(map(kinds.index, set(kinds))) + 1
        known |= {"num_hidden_layers": max(last, 2), "layer_types": kinds[: max(last, 2)]}
    return known | ALSO.get(text.model_type, {})
