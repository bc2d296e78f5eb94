"""A tokenizer in the form of sentencepiece, as newer versions of transformers save it: without tokenizer.model."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import TEXT

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]


def write_sentence_tokenizer(folder: Path, size: int = 420) -> int:
    """Write tokenizer.json and tokenizer_config.json; return the number of tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(parts)
    every = [*SPECIAL, *(f"<0x{number:02X}>" for number in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=every, show_progress=False, max_token_length=8
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][: len(SPECIAL)]  # bytes are no words
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    named = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    template = (
        "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    )
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **named, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return len(content["model"]["vocab"])


def make_gemma(folder: Path, number: str = "2") -> Path:
    """Write a random Gemma with such a tokenizer."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    size = write_sentence_tokenizer(folder)
    kind = "Gemma3Text" if number == "3" else f"Gemma{number}"
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=32,
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"Gemma{number}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.dim() > 1 else 1.0)
    model.save_pretrained(folder)
    return folder
