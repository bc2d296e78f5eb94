"""Tokenizers of the tiny models: the bundled one of byte pairs, or one of pieces where a family's converter needs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Their numbers are those that the tiny models have.
SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
SPACE = "\u2581"


def byte_pairs() -> Any:
    """Return the tokenizer of the bundled model."""
    from transformers import AutoTokenizer

    from gdpo.starter import MODEL_DIR

    return AutoTokenizer.from_pretrained(MODEL_DIR)


def pieces() -> Any:
    """Return a small tokenizer in the form of sentencepiece, trained on this file."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", SPACE)
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence(parts)
    every = [*SPECIAL.values(), *(f"<0x{number:02X}>" for number in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=every, show_progress=False, max_token_length=8
    )
    made.train_from_iterator([Path(__file__).read_text(encoding="utf-8")], trainer)
    content = json.loads(made.to_str())
    content["added_tokens"] = content["added_tokens"][: len(SPECIAL)]  # bytes are no words
    made = Tokenizer.from_str(json.dumps(content))
    return PreTrainedTokenizerFast(tokenizer_object=made, chat_template=TEMPLATE, **SPECIAL)
