"""Families of which the converter asks for settings that transformers keeps otherwise, exported and verified."""

from __future__ import annotations

import pytest
from conftest import make_tokenizer
from gguf_models import needs_llama

from gdpo.export.checks import plan_export
from gdpo.export.pipeline import export_gguf
from gdpo.export.rehearsal import rehearse
from gdpo.export.settings import complete
from gdpo.policies.loading import load_policy

COMMON = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 2,
}
GROUPED = {"num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128}
TURNED = {
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e4,
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 1, 1],
    }
}
LINEAR = {
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 16),
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
    "norm_topk_prob": True,
}
MIXED = {"layer_types": ["linear_attention", "full_attention"], **LINEAR, **GROUPED}
HYBRID = {
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "shared_intermediate_size": 64,
    "mamba_n_heads": 4,
    "mamba_d_state": 16,
}
LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
}
# Class and settings, as transformers saves them; the published Qwen 3.5 tells of a layer that drafts tokens as well.
FAMILIES = {
    "the share of GPT-NeoX": ("GPTNeoX", {"intermediate_size": 256, "rotary_pct": 0.5}),
    "all of a head of Cohere 2": ("Cohere2", {**GROUPED, "sliding_window": 64}),
    "the one key of Falcon": ("Falcon", {"ffn_hidden_size": 256}),
    "the layers of Granite 4": (
        "GraniteMoeHybrid",
        {"layer_types": ["linear_attention", "full_attention"], **HYBRID},
    ),
    "the router of DeepSeek 3": ("DeepseekV3", LATENT),
    "draft layers of Qwen 3.5": ("Qwen3_5", {**MIXED, **TURNED, "mtp_num_hidden_layers": 1}),
    "draft layers of Qwen 3 Next": ("Qwen3Next", {**MIXED, **EXPERTS}),
}


def make(folder, kind: str, settings: dict):
    import torch
    import transformers

    tokenizer = make_tokenizer()
    name = {"Qwen3_5": "Qwen3_5Text"}.get(kind, kind)
    config = getattr(transformers, f"{name}Config")(
        **{**COMMON, **settings}, vocab_size=len(tokenizer)
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@needs_llama
@pytest.mark.parametrize("case", FAMILIES)
def test_families_are_exported_by_the_names_of_the_converter(case, tmp_path):
    folder = make(tmp_path / "model", *FAMILIES[case])
    policy = load_policy(folder, device="cpu")
    rehearse(policy, plan_export(policy, tmp_path / "out", "m", ["F16"]))
    (file,) = export_gguf(policy, tmp_path / "out", "m", types=["F16"])
    assert file.report.holds, file.report.why


def test_dense_layers_at_the_start_are_counted():
    settings = {"model_type": "glm4_moe_lite", "mlp_layer_types": ["dense", "dense", "sparse"]}
    complete(settings)
    assert settings["first_k_dense_replace"] == 2
    assert settings["scoring_func"] == "sigmoid"


def test_what_a_published_file_tells_stays():
    settings = {"model_type": "deepseek_v3", "scoring_func": "softmax", "rope_parameters": None}
    complete(settings)
    assert settings["scoring_func"] == "softmax"


def test_layers_have_the_names_of_published_files():
    settings = {
        "model_type": "qwen4_exp_text",
        "layer_types": ["linear_attention", "indexed_attention"],
    }
    complete(settings)
    assert settings["layer_types"] == ["linear_attention", "full_attention"]
