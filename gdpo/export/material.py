"""What an exported file is compared on: prompts, the policy's own answers, and the trained model's logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..policies.chat import encode_prompts
from ..policies.policy import Policy, attached
from ..polling import polled
from ..progress import Progress
from ..prompts import Prompt
from ..rewards.scorer import Completion
from ..rollouts import sample

# Prompts whose greedy answers are compared; llama.cpp may have to answer each on a slow CPU.
_PROMPTS = 8
_NEW_TOKENS = 128
# Positions at which distributions are compared: enough for a mean within a few percent, and with a
# vocabulary of 150 000 the logits stay at 300 MB.
_POSITIONS = 512
_SEQUENCE = 256
# Answered where no prompt of the user's is there or fits the model's context.
PROMPT_TEXTS = (
    "Hello! How can you help me today?",
    "List three colours and say in one sentence which of them you like best.",
    "What is 12 plus 30?",
    "My order has not arrived yet. What should I do?",
)
# Texts on which tokenizers tend to differ: digits, cases, white space, other scripts, emoji.
PROBES = (
    "In 2024, 1234567 people paid $3.50 each (that's about 12% more).",
    "line one\nline two\n\n  indented\ttabbed   spaced",
    "お問い合わせありがとうございます。返金は３日以内です。",
    "Ça coûte cher, n'est-ce pas? I'LL CHECK; they've left.",
    "naïve 😀👍🏽 → ok",
)
# Tokens of each of them: a few positions show another weight, and are cheap in a large model.
PROBE_TOKENS = 32


@dataclass(frozen=True)
class Material:
    """What a file is compared on.

    Attributes:
        prompts: The prompts used, at most a few.
        rendered: Text that the model reads, for each of them.
        answered: The same with the policy's answers.
        plain: True if texts get the tokenizer's own start token, as without a chat template.
        sequences: Token ids of prompts with answers.
        answers: The policy's greedy answers.
        new_tokens: The longest an answer could be.
    """

    prompts: tuple[Prompt, ...]
    rendered: tuple[str, ...]
    answered: tuple[str, ...]
    plain: bool
    sequences: tuple[tuple[int, ...], ...]
    answers: tuple[Completion, ...]
    new_tokens: int


def gather(policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> Material:
    """Let the policy answer some of `prompts` greedily; general texts stand in where none fits."""
    tokenizer = policy.base.tokenizer
    config = policy.base.model.config
    limit = getattr(config, "max_position_embeddings", None) or 4 * _SEQUENCE
    new_tokens = min(_NEW_TOKENS, limit // 2)
    encoded = zip(prompts, encode_prompts(tokenizer, prompts, poll=progress.poll), strict=True)
    fitting = [prompt for prompt, made in encoded if len(made.ids) + new_tokens <= limit]
    chosen = tuple(fitting[:_PROMPTS]) or tuple(Prompt((("user", text),)) for text in PROMPT_TEXTS)
    with attached(policy) as model:
        rollouts = sample(
            model,
            tokenizer,
            chosen,
            max_new_tokens=new_tokens,
            temperature=0.0,
            seed=0,
            poll=progress.poll,
        )
    rendered = tuple(made.text for made in encode_prompts(tokenizer, chosen))
    sequences, positions = [], 0
    for row in range(len(chosen)):
        ids = rollouts.prompt_ids[row][rollouts.prompt_mask[row].bool()].tolist()
        ids += rollouts.completion_ids[row][rollouts.completion_mask[row].bool()].tolist()
        if positions < _POSITIONS:
            sequences.append(tuple(ids[:_SEQUENCE]))
            positions += len(sequences[-1])
    pairs = zip(rendered, rollouts.completions, strict=True)
    return Material(
        prompts=chosen,
        rendered=rendered,
        answered=tuple(text + answer.text for text, answer in pairs),
        plain=not tokenizer.chat_template,
        sequences=tuple(sequences),
        answers=rollouts.completions,
        new_tokens=new_tokens,
    )


@torch.no_grad()
def reference_logits(model: Any, material: Material, progress: Progress) -> list[Tensor]:
    """Return the trained model's logits at each position of each sequence, `(positions, V)` float32."""
    logits = []
    with polled(model, progress.poll):
        for sequence in material.sequences:
            ids = torch.tensor([sequence], device=model.device)
            logits.append(model(input_ids=ids, use_cache=False).logits[0].float().cpu())
    return logits
