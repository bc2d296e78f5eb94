"""Make the starter model from nothing: tokenizer, pre-training, measurement, model card.

Every dialogue is seen once; batches hold dialogues of like length. The loss is taken on the reply's
tokens only: the customer's words are a condition here, not something to be imitated, and a model of
this size should not spend itself on them.

There are three stages, because the fix is a small part of a reply and its choice is noisy. In the
lesson the reply is the right fix and nothing else; then come whole replies with right fixes only;
then the real mixture. In earlier runs, with batches of 32 and no `TEMPERATURE`, the mixture alone
gave fluent replies with 2 % right fixes after 600 steps; lesson and mixture gave 21 % after 1000.

The loss is a mean over each batch's reply tokens, so short replies, which share batches, weigh more
per token: sampled replies are shorter than the generator's. The saved model has `TEMPERATURE` built
in, because the long tail of a small model's distribution is what breaks its sentences: without it,
14 % of the sampled replies held a sentence that the generator cannot write, with it 3 %.

Run `python -m scripts.starter.pretrain` in the repository's root (or this file by its path).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if not __package__:  # Run by path: make the package known, so that the imports below hold.
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "scripts.starter"

from gdpo.starter import MODEL_DIR
from scripts.starter.dialogues import capital, dialogues
from scripts.starter.measure import measure, write_card
from scripts.starter.tokenizer import (
    CONTEXT,
    END,
    END_ID,
    PAD_ID,
    VOCABULARY,
    chat_prompt,
    write_tokenizer,
)

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

logger = logging.getLogger(__name__)

SEED = 2025
TOKENIZER_SEED, TOKENIZER_DIALOGUES = 1, 20_000
DATA_SEED = 2
STEPS = 2400
BATCH = 16
POOL = 32  # batches that are sorted by length together
LESSON_STEPS, RIGHT_STEPS = 8 * POOL, 17 * POOL  # the mixture gets the rest of the steps
RIGHT_ONLY = (1.0, 0.0, 0.0)
LEARNING_RATE = 1.5e-3
WARMUP = 100
WEIGHT_DECAY = 0.05
TEMPERATURE = 0.75  # divides the logits, by way of the last norm's gains
TYPO_SHARE, LOWER_SHARE, SYSTEM_SHARE = 0.12, 0.15, 0.1
SYSTEM_MESSAGES = (
    "You are a helpful assistant.",
    "You answer for the support desk.",
    "You are a support agent. Answer the customer.",
)

# Every row length (hidden, intermediate, vocabulary) is a multiple of 256, so K-quants fit.
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": PAD_ID,
    "eos_token_id": END_ID,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 768,
    "max_position_embeddings": CONTEXT,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "pad_token_id": PAD_ID,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": VOCABULARY,
}


def disturb(rng: random.Random, message: str) -> str:
    """Return the message as hasty people write it: at times in lower case, at times with one slip."""
    if rng.random() < LOWER_SHARE:
        message = message.lower()
    if rng.random() < TYPO_SHARE:
        at = rng.randrange(1, len(message) - 1)
        dropped = message[:at] + message[at + 1 :]
        swapped = message[:at] + message[at + 1] + message[at] + message[at + 2 :]
        message = rng.choice((dropped, swapped))
    return message


def examples(seed: int) -> Iterator[tuple[str, str]]:
    """Pairs (rendered prompt, reply with its end token) of the three stages, without end."""
    rng = random.Random(seed)
    lesson = dialogues(seed + 1, LESSON_STEPS * BATCH, fix_shares=RIGHT_ONLY)
    right = dialogues(seed + 2, RIGHT_STEPS * BATCH, fix_shares=RIGHT_ONLY)
    for index, dialogue in enumerate(chain(lesson, right, dialogues(seed + 3, None))):
        system = rng.choice(SYSTEM_MESSAGES) if rng.random() < SYSTEM_SHARE else ""
        in_lesson = index < LESSON_STEPS * BATCH
        reply = capital(dialogue.problem.fix) + "." if in_lesson else dialogue.reply
        yield chat_prompt(disturb(rng, dialogue.user), system), reply + END


def batches(folder: Path, seed: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """`steps` pairs (tokens, labels), each [BATCH, T], padded right; -100 outside the reply."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rng = random.Random(seed)
    source = examples(seed)
    left = steps
    while left > 0:
        size = min(POOL, left)
        pairs = [next(source) for _ in range(size * BATCH)]
        prompts = tokenizer.encode_batch([prompt for prompt, _ in pairs])
        replies = tokenizer.encode_batch([reply for _, reply in pairs])
        rows = [(p.ids, r.ids) for p, r in zip(prompts, replies, strict=True)]
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        groups = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
        rng.shuffle(groups)
        yield from map(collate, groups)
        left -= size


def collate(rows: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Return tokens and labels [len(rows), T] of (prompt, reply) token lists, padded right."""
    length = max(len(prompt) + len(reply) for prompt, reply in rows)
    tokens = torch.full((len(rows), length), PAD_ID)
    labels = torch.full((len(rows), length), -100)
    for index, (prompt, reply) in enumerate(rows):
        end = len(prompt) + len(reply)
        tokens[index, :end] = torch.tensor(prompt + reply)
        labels[index, len(prompt) : end] = torch.tensor(reply)
    return tokens, labels


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth of `LEARNING_RATE`."""
    if step < WARMUP:
        return LEARNING_RATE * (step + 1) / WARMUP
    done = (step - WARMUP) / max(1, steps - WARMUP)
    return LEARNING_RATE * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def make_optimizer(model: LlamaForCausalLM) -> torch.optim.AdamW:
    """AdamW that decays the layers' matrices, but neither the gains nor the (tied) embedding."""
    free = [w for name, w in model.named_parameters() if w.ndim < 2 or "embed" in name]
    decayed = [w for name, w in model.named_parameters() if not (w.ndim < 2 or "embed" in name)]
    groups = [
        {"params": decayed, "weight_decay": WEIGHT_DECAY},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95))


def pretrain(folder: Path, steps: int) -> LlamaForCausalLM:
    """Return a model trained for `steps` steps in float32, with the tokenizer found in `folder`."""
    from tqdm import tqdm
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    model = LlamaForCausalLM(LlamaConfig(**{**CONFIG, "torch_dtype": "float32"})).float().train()
    optimizer = make_optimizer(model)
    bar = tqdm(batches(folder, DATA_SEED, steps), total=steps, desc="pre-training", mininterval=5)
    average = 0.0
    for step, (tokens, labels) in enumerate(bar):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        # Padding is on the right and attention is causal, so no reply token ever sees it.
        loss = model(input_ids=tokens, labels=labels).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average = loss.item() if step == 0 else 0.98 * average + 0.02 * loss.item()
        bar.set_postfix(loss=f"{average:.3f}", refresh=False)
    return model.eval()


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """Write weights in bfloat16 and the configuration in a form that transformers 4 and 5 read."""
    from safetensors.torch import save_file

    weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    del weights["lm_head.weight"]  # tied to the embedding
    weights["model.norm.weight"] /= TEMPERATURE
    weights = {name: weight.to(torch.bfloat16) for name, weight in weights.items()}
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    generation = {key: CONFIG[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, content in (("config.json", CONFIG), ("generation_config.json", generation)):
        text = json.dumps(content, indent=2) + "\n"
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    """Read the command line and make the model."""
    parser = argparse.ArgumentParser(description="Make the starter model from nothing.")
    parser.add_argument("--output", type=Path, default=MODEL_DIR, help="folder of the model")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of {BATCH} dialogues")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)

    texts = (
        text
        for dialogue in dialogues(TOKENIZER_SEED, TOKENIZER_DIALOGUES)
        for text in (dialogue.user, dialogue.reply, *SYSTEM_MESSAGES)
    )
    write_tokenizer(texts, options.output)
    started = time.monotonic()
    save(pretrain(options.output, options.steps), options.output)
    minutes = (time.monotonic() - started) / 60
    logger.info("trained for %.1f minutes; now measuring", minutes)
    measured = measure(options.output) | {
        "steps": options.steps,
        "dialogues": options.steps * BATCH,
        "training_minutes": round(minutes, 1),
    }
    text = json.dumps(measured, indent=2) + "\n"
    (options.output / "measured.json").write_text(text, encoding="utf-8", newline="\n")
    write_card(options.output, measured)
    logger.info("%s", json.dumps(measured))


if __name__ == "__main__":
    main()
