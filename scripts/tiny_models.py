"""Tiny random models of the families of language models that transformers has, with the bundled tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# What makes a model tiny: each is set where the family's configuration has it.
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "word_embed_proj_dim"), 64),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff"), 128),
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
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
    "is_decoder": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": True,
}


# Sizes that hang on others, by the type of the configuration.
SHARED = ["linear_attention", "hybrid"] * 2
LATENT = {"head_dim": 8, "num_key_value_heads": 4}
ALSO: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_state": 16},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
    "dbrx": {
        "tie_word_embeddings": False,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 64, "ffn_hidden_size": 64},
    },
    "deepseek_v4": {
        "o_groups": 2,
        "o_lora_rank": 16,
        "index_n_heads": 2,
        "index_head_dim": 16,
        "num_key_value_heads": 1,
    },
    "dots3_note_text": {"layer_types": ["full_attention", "full_attention"]},
    "electra": {"embedding_size": 64},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": 4096,
    },
    "gemma4_text": {"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 4096},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 64},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"], "mamba_n_heads": 4},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "longcat_flash": {"expert_ffn_hidden_size": 64, "zero_expert_num": 2},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1, "state_size": 16},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 64,
        "indexer_compress_ratio": 4,
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "lru_width": 64},
    "reformer": {
        "axial_pos_embds_dim": [16, 48],
        "axial_pos_shape": [16, 16],
        "attn_layers": ["local", "lsh"],
        "attention_head_size": 16,
        "num_buckets": 4,
    },
    "rembert": {"input_embedding_size": 64, "output_embedding_size": 64},
    "xlstm": {"hidden_size": 128},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": SHARED, "num_key_value_heads": 4},
    "zamba2": {"num_hidden_layers": 4, "layers_block_type": SHARED, "num_key_value_heads": 4},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}


def save_tiny(kind: str, folder: Path) -> None:
    """Write a tiny random model of a family, with the bundled tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from gdpo.starter import MODEL_DIR

    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    text: Any = AutoConfig.for_model(kind).get_text_config()
    config = type(text)(**tiny_settings(text), vocab_size=len(tokenizer))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for table in (part for part in model.modules() if isinstance(part, torch.nn.Embedding)):
        # It is zero in a fresh model, where some norms have no gradient.
        if table.padding_idx is not None:
            torch.nn.init.normal_(table.weight.data[table.padding_idx], std=0.02)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_settings(text: Any) -> dict[str, Any]:
    """Return what makes models of a configuration's type tiny."""
    entries = text.to_dict()
    known = {name: value for name, value in SMALL.items() if name in entries}
    # Of latent attention a head's size is only what is turned, and each head has its own keys.
    if "kv_lora_rank" in known:
        known |= {name: value for name, value in LATENT.items() if name in known}
    if isinstance(entries.get("layer_types"), list):
        kinds = list(dict.fromkeys(entries["layer_types"]))
        known["layer_types"] = [kinds[0], kinds[-1]]
    return known | ALSO.get(text.model_type, {})
