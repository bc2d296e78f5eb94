"""A model that says one thing: a real Llama whose weights make each token follow from the one before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from gdpo.policies.chat import encode_prompt
from gdpo.prompts import Prompt
from gdpo.starter import MODEL_DIR

TAGS = ("<answer>", "</answer>")


def tagged_tokenizer(tags: Sequence[str] = TAGS) -> Any:
    """The starter's tokenizer, with the tags as special tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    tokenizer.add_special_tokens({"additional_special_tokens": list(tags)})
    return tokenizer


def make_chain_model(folder: Path, said: list[int], tokenizer: Any, prompt: Prompt) -> Path:
    """Write a model that continues `prompt` with the different tokens `said`.

    Attention and feed-forward layers add nothing, so the last token's embedding alone decides: each
    token of the chain has an axis of its own, and the row of its successor in the head points along it.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    chain = [encode_prompt(tokenizer, prompt)[-1], *said]
    assert len(set(chain)) == len(chain) <= 64
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "norm" not in name:
                weights.zero_()
        for axis, (token, follower) in enumerate(pairwise(chain)):
            model.model.embed_tokens.weight[token, axis] = 1.0
            model.lm_head.weight[follower, axis] = 1.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
