"""The starter model's tokenizer: byte-level BPE in the GPT-2 form, with a ChatML template.

The split rule is GPT-2's own, because llama.cpp has to know it by name ("gpt-2") to tokenize alike.
The files are written by hand rather than by `save_pretrained`, whose output differs
between the major versions of transformers; both read this form.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

VOCABULARY = 2048  # a multiple of 256, as K-quants want every row length
CONTEXT = 512
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
PAD_ID, START_ID, END_ID = 0, 1, 2

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chat_prompt(user: str, system: str = "") -> str:
    """Return what the chat template renders for one message, ready for the reply."""
    head = f"{START}system\n{system}{END}\n" if system else ""
    return f"{head}{START}user\n{user}{END}\n{START}assistant\n"


def write_tokenizer(texts: Iterable[str], folder: Path) -> None:
    """Train on `texts` and write `tokenizer.json` and `tokenizer_config.json` into `folder`.

    Args:
        texts: Plain texts without special tokens. Must be rich enough for the whole vocabulary.
        folder: An existing folder.

    Raises:
        ValueError: When `texts` yield fewer than `VOCABULARY` tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True) for token in (PAD, START, END)],
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(
            f"the texts give {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}; add more texts"
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_config(folder)


def _write_config(folder: Path) -> None:
    config = {
        "added_tokens_decoder": {
            str(index): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for index, token in enumerate((PAD, START, END))
        },
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": PAD,  # required by some loaders, never added
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "model_max_length": CONTEXT,
        "pad_token": PAD,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    text = json.dumps(config, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8", newline="\n")
