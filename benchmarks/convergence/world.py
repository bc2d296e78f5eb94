"""The small world in which methods are compared: its words, its prompts, and the policy that they start from.

A customer names one of ten problems, each with a fix of two words. The policy is a Llama of 0.04 M parameters,
pretrained within a minute on replies that do a bit of everything: polite or not, long or short, right or wrong.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import torch

PROBLEMS = {
    "printer": ("refill", "toner"),
    "router": ("reboot", "modem"),
    "screen": ("swap", "cable"),
    "mouse": ("change", "battery"),
    "keyboard": ("clean", "keys"),
    "laptop": ("charge", "adapter"),
    "phone": ("update", "system"),
    "camera": ("wipe", "lens"),
    "speaker": ("raise", "volume"),
    "tablet": ("free", "storage"),
}
COURTESIES = ("please", "thanks", "sorry", "glad", "kindly")
FILLERS = ("well", "so", "maybe", "just", "really", "perhaps")
OPENINGS = ("my", "the", "our", "this")
COMPLAINTS = ("fails", "hangs", "broke", "sticks", "stopped")
OTHERS = ("hello", "bye", "team", "guide", "first", "then", "?")
PAD, END = "<pad>", "<end>"

# The bases: shares of the pretraining's replies, after its lessons, that have the problem's fix, and any problem's. The
# latter is right by luck in a tenth: in 3 and in 1 of 100 replies where there are no others.
BASES = {"usual": (0.2, 0.3), "rare": (0.0, 0.3), "rarer": (0.0, 0.1)}
LONGEST_REPLY = 16

_STEPS, _LESSONS, _BATCH, _RATE = 900, 300, 64, 4e-3
_SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    # Wide, or words that occur in the same places would have the same vector and could not be told apart.
    "initializer_range": 0.15,
}


def vocabulary() -> list[str]:
    """Return all words, padding and end first."""
    fixes = [word for fix in PROBLEMS.values() for word in fix]
    groups = (OTHERS, PROBLEMS, fixes, COURTESIES, FILLERS, OPENINGS, COMPLAINTS)
    return [PAD, END, *(word for group in groups for word in group)]


def all_prompts() -> list[str]:
    """Return every problem with every opening and complaint, in an order without a pattern."""
    texts = [f"{o} {p} {c} ?" for o in OPENINGS for p in PROBLEMS for c in COMPLAINTS]
    random.Random(0).shuffle(texts)
    return texts


def reply(prompt: str, rng: random.Random, right: float, guessed: float) -> str:
    """Return a reply as the pretraining has them; the shares are those of `BASES`."""
    problem = prompt.split()[1]
    words = [_loose_word(rng, problem) for _ in range(rng.randint(1, 12))]
    draw = rng.random()
    if draw < right + guessed:
        fix = PROBLEMS[problem] if draw < right else rng.choice(list(PROBLEMS.values()))
        place = rng.randint(0, len(words))
        words[place:place] = fix if rng.random() < 0.5 else ("first", fix[0], "then", fix[1])
    return _framed(words, rng)


def _loose_word(rng: random.Random, problem: str) -> str:
    draw = rng.random()
    if draw < 0.25:
        return rng.choice(COURTESIES)
    if draw < 0.35:
        return rng.choice(("team", "guide", problem))
    return rng.choice(FILLERS)


def _framed(words: list[str], rng: random.Random) -> str:
    words = ["hello", *words] if rng.random() < 0.3 else words
    words = [*words, "bye"] if rng.random() < 0.3 else words
    return " ".join(words[: LONGEST_REPLY - 1])


def _pairs(right: float, guessed: float) -> Iterator[tuple[str, str]]:
    rng, prompts = random.Random(1), all_prompts()
    for count in itertools.count():
        share = 1.0 if count < _LESSONS * _BATCH else right  # what is right is learnt first
        prompt = rng.choice(prompts)
        yield prompt, reply(prompt, rng, share, guessed)


def make_base(folder: Path, base: str) -> Path:
    """Pretrain a policy and write it as a Hugging Face folder, unless it is there.

    Args:
        folder: Folder of the model.
        base: One of `BASES`.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    if (folder / "config.json").exists():
        return folder
    words = vocabulary()
    ids = {word: index for index, word in enumerate(words)}
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), pad_token_id=0, eos_token_id=1, bos_token_id=None, **_SHAPE
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    pairs = _pairs(*BASES[base])
    for _ in range(_STEPS):
        rows = [next(pairs) for _ in range(_BATCH)]
        tokens = [[ids[w] for w in p.split()] + [ids[w] for w in r.split()] + [1] for p, r in rows]
        width = max(map(len, tokens))
        inputs = torch.tensor([row + [0] * (width - len(row)) for row in tokens])
        labels = inputs.masked_fill(inputs == 0, -100)
        for row, (prompt, _) in zip(labels, rows, strict=True):
            row[: len(prompt.split())] = -100  # the replies alone are learnt
        loss = model(input_ids=inputs, attention_mask=(inputs != 0).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    partial = folder.with_name(folder.name + ".part")
    model.save_pretrained(partial)
    _write_tokenizer(partial, ids)
    partial.rename(folder)
    return folder


def _write_tokenizer(folder: Path, ids: dict[str, int]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
