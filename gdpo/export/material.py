"""What an exported file is compared on: prompts, the policy's own answers, and the trained model's logits."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import TrainingError
from ..policies.adapter import innermost
from ..policies.chat import encode_prompts
from ..policies.policy import Policy, attached
from ..polling import polled
from ..progress import Progress
from ..prompts import Prompt
from ..rewards.scorer import Completion
from ..rollouts import Rollouts, sample
from ..runs.run_file import read_run
from ..settings import TrainSettings

logger = logging.getLogger(__name__)

# Longest answer where no training says how long it is.
_NEW_TOKENS = 128
# Prompts whose greedy answers are compared: as many as make so many tokens, which llama.cpp may have to write on a slow
# CPU, but so many at least and at most.
_ANSWERED, _FEWEST, _MOST = 1024, 8, 32
# Positions at which distributions are compared: with a vocabulary of 150 000 the logits stay at 300 MB.
_POSITIONS = 512
# Of a long prompt with its answer the last positions are.
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
        last: How many of the last positions of each sequence are compared.
        answers: The policy's greedy answers.
        said: Ids of the tokens in them, those that ended one left out.
        ended: Ids of the tokens that ended one.
        new_tokens: The longest an answer could be: as in the training.
    """

    prompts: tuple[Prompt, ...]
    rendered: tuple[str, ...]
    answered: tuple[str, ...]
    plain: bool
    sequences: tuple[tuple[int, ...], ...]
    last: tuple[int, ...]
    answers: tuple[Completion, ...]
    said: frozenset[int]
    ended: frozenset[int]
    new_tokens: int


def gather(policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> Material:
    """Let the policy answer some of `prompts` greedily, as long as in its training.

    General texts stand in where none fits.
    """
    tokenizer = policy.base.tokenizer
    chosen, new_tokens = _choose(policy, prompts, progress)
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
    sequences, last = _sequences(rollouts)
    said, ended = _tokens(rollouts)
    pairs = zip(rendered, rollouts.completions, strict=True)
    return Material(
        prompts=chosen,
        rendered=rendered,
        answered=tuple(text + answer.text for text, answer in pairs),
        plain=not tokenizer.chat_template,
        sequences=sequences,
        last=last,
        answers=rollouts.completions,
        said=said,
        ended=ended,
        new_tokens=new_tokens,
    )


def _sequences(rollouts: Rollouts) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Return token ids of as many prompts with their answers as are compared, and how many positions of each."""
    sequences: list[tuple[int, ...]] = []
    last: list[int] = []
    for row in range(len(rollouts.completions)):
        if sum(last) < _POSITIONS:
            prompt = rollouts.prompt_ids[row][rollouts.prompt_mask[row].bool()].tolist()
            sequences.append((*prompt, *_answer(rollouts, row)))
            last.append(min(len(sequences[-1]), _SEQUENCE))
    return tuple(sequences), tuple(last)


def _tokens(rollouts: Rollouts) -> tuple[frozenset[int], frozenset[int]]:
    """Return the tokens within answers, and those that ended one."""
    said: set[int] = set()
    ended: set[int] = set()
    for row, answer in enumerate(rollouts.completions):
        ids = _answer(rollouts, row)
        end = [] if answer.truncated else ids[-1:]
        ended.update(end)
        said.update(ids[: len(ids) - len(end)])
    return frozenset(said), frozenset(ended)


def _answer(rollouts: Rollouts, row: int) -> list[int]:
    return rollouts.completion_ids[row][rollouts.completion_mask[row].bool()].tolist()


def _choose(
    policy: Policy, prompts: Sequence[Prompt], progress: Progress
) -> tuple[tuple[Prompt, ...], int]:
    """Return the prompts to answer, and the longest that an answer may be."""
    limit = getattr(policy.base.model.config, "max_position_embeddings", None) or 4 * _SEQUENCE
    new_tokens = _trained_tokens(policy) or min(_NEW_TOKENS, limit // 2)
    encoded = encode_prompts(policy.base.tokenizer, prompts, poll=progress.poll)
    fitting = [
        prompt
        for prompt, made in zip(prompts, encoded, strict=True)
        if len(made.ids) + new_tokens <= limit
    ]
    if fitting:
        count = min(_MOST, max(_FEWEST, _ANSWERED // new_tokens))
        return tuple(fitting[:count]), new_tokens
    general = tuple(Prompt((("user", text),)) for text in PROMPT_TEXTS)
    return general, min(new_tokens, limit // 2)


def _trained_tokens(policy: Policy) -> int | None:
    """Return the `max_new_tokens` of the training that the policy comes from; None where there was none.

    Beyond it the policy was never rewarded for anything: what it says there is another text, with other rewards.
    """
    if policy.run is None:
        return None
    try:
        settings = read_run(policy.run)["identity"]["settings"]
        return TrainSettings(max_new_tokens=settings["max_new_tokens"]).max_new_tokens
    except (TrainingError, KeyError) as error:
        logger.warning(
            "How long answers were in the training is not known (%s); those of the check are of at most %d tokens.",
            error,
            _NEW_TOKENS,
        )
        return None


@torch.no_grad()
def reference_logits(model: Any, material: Material, progress: Progress) -> list[Tensor]:
    """Return the trained model's logits at the compared positions of each sequence, `(positions, V)` float32."""
    known = "logits_to_keep" in inspect.signature(type(innermost(model)).forward).parameters
    logits = []
    with polled(model, progress.poll):
        for sequence, count in zip(material.sequences, material.last, strict=True):
            ids = torch.tensor([sequence], device=model.device)
            # All positions of a long prompt take gigabytes where the vocabulary is large.
            options = {"logits_to_keep": count} if known else {}
            found = model(input_ids=ids, use_cache=False, **options).logits[0, -count:]
            logits.append(found.float().cpu())
    return logits
