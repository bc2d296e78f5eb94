"""What the starter model is worth before any training with rewards, measured and written down."""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import torch

from gdpo.starter import HELDOUT_PROMPTS
from scripts.starter.dialogues import dialogues, is_polite, load_catalogue
from scripts.starter.tokenizer import END, END_ID, PAD_ID, chat_prompt

PERPLEXITY_SEED, PERPLEXITY_DIALOGUES = 3, 1024
SENTENCES_SEED = 4
SAMPLES_PER_PROMPT = 4
MAX_NEW_TOKENS = 96
SHORT_WORDS = 15
BATCH = 64

CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---
# Starter model: a support desk in 3.7 million parameters

A Llama-architecture model (hidden size 256, 4 layers, 8 heads of width 32, 4 key-value heads, tied
embeddings, byte-level BPE with 2048 tokens, ChatML template, context 512), trained from nothing on
synthetic English dialogues. Each dialogue is one message about one of 48 problems with 8 products,
and one reply. About half of the replies are polite, lengths vary widely, and fewer than half name
the right fix. So the model is fluent, but often long, curt or wrong: something to train with
rewards. It knows nothing beyond this desk, and saw single exchanges of at most about 150 tokens. A
temperature of 0.75 is built into its last norm, so sample it at temperature 1.
It was chosen among 1, 0.85 and 0.75 by looking at sampled replies to held-out messages, so the figures
below are slightly favourable (without it 32 % name the right fix and 53 % are polite). The bundled
weights were divided after they had been rounded to bf16; a rebuild divides before, and may differ by that
rounding in the 256 gains of the last norm.

Rebuild it, prompts first (seeds are fixed; figures may differ in the last digits between machines):

```
python -m scripts.starter.dialogues
python -m scripts.starter.pretrain --steps {steps}
```

## Measured

On held-out phrasings (symptom texts and sentence frames that never occur in training), with replies
sampled at temperature 1. Perplexity is per reply token; much of it is the entropy of the data
itself, whose replies choose fixes, manners and filler sentences at random.

| figure | value |
|---|---|
{table}

Licence: Apache-2.0, as the repository's.
"""


def measure(folder: Path) -> dict[str, Any]:
    """Perplexity and behaviour of the model in `folder`, on phrasings that it never saw.

    Returns:
        Plain numbers by name: shares in [0, 1], perplexities per reply token, lengths in words.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in HELDOUT_PROMPTS.read_text(encoding="utf-8").splitlines()]
    rows = rows * SAMPLES_PER_PROMPT
    torch.manual_seed(0)
    replies = sample(model, tokenizer, rows)
    texts = tokenizer.batch_decode(replies, skip_special_tokens=True)
    sizes = [len(reply) + (END_ID not in reply) for reply in replies]
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "perplexity_seen_phrasing": perplexity(model, tokenizer, heldout=False),
        "perplexity_heldout_phrasing": perplexity(model, tokenizer, heldout=True),
    } | behaviour(rows, texts, sizes)


@torch.inference_mode()
def perplexity(model: Any, tokenizer: Any, heldout: bool) -> float:
    """Return exponential of the mean negative log-likelihood per reply token on new dialogues."""
    total, count = 0.0, 0
    pairs = [
        (chat_prompt(dialogue.user), dialogue.reply + END)
        for dialogue in dialogues(PERPLEXITY_SEED, PERPLEXITY_DIALOGUES, heldout)
    ]
    for at in range(0, len(pairs), BATCH):
        part = pairs[at : at + BATCH]
        heads = [len(tokenizer(prompt).input_ids) for prompt, _ in part]
        full = [tokenizer(prompt + reply).input_ids for prompt, reply in part]
        length = max(map(len, full))
        tokens = torch.tensor([row + [PAD_ID] * (length - len(row)) for row in full])
        logits = model(input_ids=tokens).logits[:, :-1].log_softmax(-1)  # [N, T-1, V]
        chosen = logits.gather(-1, tokens[:, 1:, None])[..., 0]  # [N, T-1]
        for row, head, whole in zip(chosen, heads, full, strict=True):
            total -= row[head - 1 : len(whole) - 1].sum().item()
            count += len(whole) - head
    return round(math.exp(total / count), 3)


@torch.inference_mode()
def sample(model: Any, tokenizer: Any, rows: list[dict[str, str]]) -> list[list[int]]:
    """Return one reply per row at temperature 1: its tokens, with the end token where it was reached."""
    replies: list[list[int]] = []
    for at in range(0, len(rows), BATCH):
        heads = [tokenizer(chat_prompt(row["prompt"])).input_ids for row in rows[at : at + BATCH]]
        width = max(map(len, heads))
        tokens = torch.tensor([[PAD_ID] * (width - len(head)) + head for head in heads])
        mask = torch.tensor([[0] * (width - len(head)) + [1] * len(head) for head in heads])
        output = model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
        )
        new = output[:, width:].tolist()
        replies.extend(row[: row.index(END_ID) + 1] if END_ID in row else row for row in new)
    return replies


def behaviour(rows: list[dict[str, str]], texts: list[str], sizes: list[int]) -> dict[str, Any]:
    """Shares and lengths of sampled replies.

    Args:
        rows: The prompt row behind each reply.
        texts: The replies without special tokens.
        sizes: Tokens of each reply with its end token; more than `MAX_NEW_TOKENS` if unfinished.
    """
    fixes = [problem.fix for problem in load_catalogue()]
    words = [len(text.split()) for text in texts]
    right = [row["reference"] in text.lower() for row, text in zip(rows, texts, strict=True)]
    some = [any(fix in text.lower() for fix in fixes) for text in texts]
    polite = [is_polite(text) for text in texts]
    short = [count <= SHORT_WORDS for count in words]
    every = [all(good) for good in zip(right, polite, short, strict=True)]
    known = {part for d in dialogues(SENTENCES_SEED, 20_000) for part in sentences(d.reply)}
    sound = [known.issuperset(sentences(text)) for text in texts]
    return {
        "replies": len(texts),
        "share_right_fix": round(statistics.fmean(right), 3),
        "share_any_fix": round(statistics.fmean(some), 3),
        "share_polite": round(statistics.fmean(polite), 3),
        "share_at_most_15_words": round(statistics.fmean(short), 3),
        "share_right_polite_and_short": round(statistics.fmean(every), 3),
        "share_of_wellformed_sentences_only": round(statistics.fmean(sound), 3),
        "words_mean": round(statistics.fmean(words), 1),
        "words_std": round(statistics.pstdev(words), 1),
        "words_mean_polite": round(_mean_where(words, polite, True), 1),
        "words_mean_curt": round(_mean_where(words, polite, False), 1),
        "tokens_mean": round(statistics.fmean(sizes), 1),
        "share_at_most_72_tokens": round(statistics.fmean(size <= 72 for size in sizes), 3),
        "share_ended": round(statistics.fmean(size <= MAX_NEW_TOKENS for size in sizes), 3),
    }


def sentences(reply: str) -> list[str]:
    """Return the sentences of a reply; one is well-formed here if the generator can write it."""
    return re.split(r"(?<=[.!?]) ", reply)


def _mean_where(values: list[int], flags: list[bool], wanted: bool) -> float:
    chosen = [value for value, flag in zip(values, flags, strict=True) if flag is wanted]
    return statistics.fmean(chosen) if chosen else math.nan


def write_card(folder: Path, measured: dict[str, Any]) -> None:
    """Write the model card `README.md`, with the figures in `measured`, into `folder`."""
    table = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in measured.items())
    (folder / "README.md").write_text(CARD.format(table=table, steps=measured["steps"]), "utf-8")
