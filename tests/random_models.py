"""Tiny random models of many families, with and without an adapter."""

from __future__ import annotations

import pytest
import torch
from conftest import make_tokenizer

from gdpo.policies import policy
from gdpo.prompts import Prompt

PROMPTS = [
    Prompt((("user", text),), {}) for text in ("the printer", "restart the router then check", "?")
]


def architectures() -> dict:
    """Tiny random models of several families: rotary, head norms, sliding windows, tied and scaled heads, caps."""
    import transformers as t

    common = {
        "vocab_size": len(make_tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 2,
    }
    window = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    return {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**common, attention_bias=True)),
        "llama tied": lambda: t.LlamaForCausalLM(
            t.LlamaConfig(**{**common, "tie_word_embeddings": True})
        ),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**common)),
        "qwen2 window": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**common, **window)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**common, head_dim=16)),
        "gemma": lambda: t.GemmaForCausalLM(t.GemmaConfig(**common, head_dim=8)),
        "gemma2": lambda: t.Gemma2ForCausalLM(
            t.Gemma2Config(
                **common,
                head_dim=8,
                sliding_window=8,
                attn_logit_softcapping=3.0,
                final_logit_softcapping=5.0,
                attn_implementation="eager",
            )
        ),
        "gemma3": lambda: t.Gemma3ForCausalLM(
            t.Gemma3TextConfig(**common, head_dim=8, sliding_window=8, sliding_window_pattern=2)
        ),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**common, sliding_window=8)),
        "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**common)),
        "phi3 window": lambda: t.Phi3ForCausalLM(t.Phi3Config(**common, sliding_window=8)),
        "granite": lambda: t.GraniteForCausalLM(
            t.GraniteConfig(
                **common, logits_scaling=3.0, residual_multiplier=0.7, embedding_multiplier=1.5
            )
        ),
        # Not Llama-shaped: through transformers' cache.
        "olmo2": lambda: t.Olmo2ForCausalLM(t.Olmo2Config(**common)),
        "mixtral": lambda: t.MixtralForCausalLM(
            t.MixtralConfig(**common, num_local_experts=2, sliding_window=8)
        ),
    }


WRITTEN_OUT = [name for name in architectures() if name not in {"olmo2", "mixtral"}]


def random_model(name):
    torch.manual_seed(0)
    module = architectures()[name]().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5.0)  # sharp enough that the likeliest token has no close second
            else:  # norms and biases that matter
                parameter.add_(torch.randn_like(parameter) * 0.1)
    module.name_or_path = name  # what peft writes down as the base
    return module.requires_grad_(False)


def adapted(model, seed=0, **options):
    """The model with a random adapter, B included, on all linear layers."""
    torch.manual_seed(seed)
    shell = policy.wrap(model, policy.fresh_config(4, 8) | options).eval()
    randomise(shell)
    return shell


def randomise(shell):
    generator = torch.Generator().manual_seed(1)
    for name, parameter in shell.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)


def experts_and_others() -> dict:
    """Tiny random models with routed experts or with layers of another shape; those that transformers knows."""
    import transformers as t

    common = {
        "vocab_size": len(make_tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 2,
    }
    four = {"num_experts_per_tok": 2, "num_experts": 4}
    local = {"num_experts_per_tok": 2, "num_local_experts": 4}
    latent = {
        "moe_intermediate_size": 16,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "head_dim": 8,
    }
    small = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
    made = {
        "Mixtral": local,
        "Qwen2Moe": {**four, **small},
        "Qwen3Moe": {**four, "moe_intermediate_size": 16, "head_dim": 8},
        "Olmoe": four,
        "GraniteMoe": local,
        "DeepseekV2": latent,
        "DeepseekV3": latent,
        "GptOss": {**local, "head_dim": 8},
        "Phi3": {},
        "Gemma2": {"head_dim": 8},
    }
    known = {name: own for name, own in made.items() if hasattr(t, f"{name}ForCausalLM")}
    models = {
        name: (
            lambda name=name, own=own: getattr(t, f"{name}ForCausalLM")(
                getattr(t, f"{name}Config")(**{**common, **own})
            )
        )
        for name, own in known.items()
    }
    named = {key: common[key] for key in ("vocab_size", "pad_token_id", "bos_token_id")}
    gpt2 = t.GPT2Config(**named, eos_token_id=2, n_embd=32, n_layer=2, n_head=4, n_positions=256)
    models["Gemma3"] = lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**common, head_dim=8))
    if int(t.__version__.split(".")[0]) >= 5:  # before, its decoder and its cache have other forms
        models["GPT2"] = lambda: t.GPT2LMHeadModel(gpt2)
    return models


def recurrent_model(name):
    import transformers as t

    torch.manual_seed(0)
    if name == "mamba":
        config = t.MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2, state_size=4)
        return t.MambaForCausalLM(config).eval()
    if not hasattr(t, "Qwen3NextConfig"):
        pytest.skip(f"transformers {t.__version__} knows no such model")
    config = t.Qwen3NextConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    )
    return t.Qwen3NextForCausalLM(config).eval()
