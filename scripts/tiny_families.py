"""What the tiny model of a family needs beside its sizes, by the type of its configuration."""

from __future__ import annotations

from typing import Any

TURNED = {"rope_type": "default", "rope_theta": 5e5}
SLIDING = ["sliding_attention"] * 3
SHARED = ["linear_attention", "hybrid"] * 2
SECTIONS = {
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e4,
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 1, 1],
    }
}
LATENT = {"head_dim": 8, "num_key_value_heads": 4}
ALSO: dict[str, dict[str, Any]] = {
    "afmoe": {"mup_enabled": True},
    "bitnet": {"tie_word_embeddings": True},
    "dots1": {"num_key_value_heads": 4},
    "exaone4": {
        "num_hidden_layers": 2,
        "sliding_window": None,
        "layer_types": ["full_attention"] * 2,
    },
    "ernie4_5_moe": {"intermediate_size": 256, "moe_num_experts": 4, "moe_k": 2},
    "falcon": {"ffn_hidden_size": 256},
    "gemma2": {"query_pre_attn_scalar": 16},
    "gemma3_text": {"query_pre_attn_scalar": 16},
    "laguna": {"num_hidden_layers": 4, "layer_types": ["full_attention", *SLIDING]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mellum": {
        "num_hidden_layers": 4,
        "layer_types": [*SLIDING, "full_attention"],
        # llama.cpp turns the heads of all layers alike.
        "rope_parameters": dict.fromkeys(("full_attention", "sliding_attention"), TURNED),
    },
    "minimax_m2": {"rotary_dim": 8},
    # Windows that llama.cpp does not know; those of published models are wider than their texts, or absent.
    **{key: {"sliding_window": None} for key in ("ministral3", "mistral", "mixtral")},
    "phi3": {"sliding_window": 256},
    "starcoder2": {"sliding_window": 256},
    "olmoe": {"num_key_value_heads": 4},
    "phi": {"num_key_value_heads": 4, "intermediate_size": 256},
    "qwen3_5_moe_text": SECTIONS,
    "qwen3_5_text": SECTIONS,
    "qwen3_moe": {"norm_topk_prob": True},
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
    "electra": {"embedding_size": 64},
    "gemma3n_text": {
        # llama.cpp knows that layers share keys from the 20th on, and that the first ten are sparse.
        "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.95] * 5,
        "hidden_size_per_layer_input": 256,
        "vocab_size_per_layer_input": 2048,
    },
    "gemma4_text": {
        **dict.fromkeys(("num_experts", "top_k_experts", "moe_intermediate_size")),
        "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": 512,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 64},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"], "mamba_n_heads": 4},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "longcat_flash": {"expert_ffn_hidden_size": 64, "zero_expert_num": 2},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1, "state_size": 16},
    "qwen4_exp_text": {
        **SECTIONS,
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
    "solar_open": {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "partial_rotary_factor": 1.0,
        }
    },
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}
# Entries of the published config.json files that transformers reads and does not write again; llama.cpp's converter asks
# for them.
PUBLISHED: dict[str, dict[str, Any]] = {
    "bamba": {"attn_rotary_emb": 8},
    "kimi_linear": {
        "linear_attn_config": {
            "full_attn_layers": [5],
            "kda_layers": [1, 2, 3, 4],
            "head_dim": 16,
            "num_heads": 4,
            "short_conv_kernel_size": 4,
        }
    },
    "qwen3_5_moe_text": {"mtp_num_hidden_layers": 1},
    "qwen3_5_text": {"mtp_num_hidden_layers": 1},
}
GLM = [
    "[gMASK]",
    "<sop>",
    "<|endoftext|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
]
# Special tokens that the converter looks up by name.
TOKENS: dict[str, list[str]] = {
    **dict.fromkeys(("glm", "glm4", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa"), GLM),
    "solar_open": ["<unk>", "<|startoftext|>"],
}
# Those that llama.cpp ends an answer at wherever a vocabulary has them.
ENDS = ["<|endoftext|>", "<|user|>", "<|observation|>"]
# Families whose converter reads no byte pairs.
PIECES = {"gemma4_text", "jamba"}
