"""Scores completions with several rewards at once, gates applied."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real

import torch

from ..errors import RewardError, shorten
from ..prompts import Prompt
from .reward import Reward
from .scorer import Completion, Scorer


def score_rewards(
    rewards: Sequence[Reward],
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    poll: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Return all rewards of all completions, gates applied.

    Where a gate is below its threshold, or could not be scored itself, the gated reward gets the
    bottom of its range ("zero fill"). Leaving such completions out instead would let a group shrink
    to one member, which has no advantage. A completion that the gated reward itself cannot score
    stays unscored.

    Args:
        rewards: K rewards. A scorer that occurs several times, as a gate too, runs once per
            completion.
        prompts: N prompts; `prompts[i]` belongs to `completions[i]`.
        completions: N completions.
        poll: Function that is called before every single scoring, or that of a whole batch; it may raise to stop, and what it raises passes
            untouched.

    Returns:
        Shape (K, N), float64 on the CPU, NaN where unscored.

    Raises:
        RewardError: A scorer raised, or gave a number that is not finite or outside its range. A
            failure is never turned into a low reward: the policy would be trained on it.
    """
    if len(prompts) != len(completions):
        raise RewardError(
            "Every completion needs its prompt. "
            f"Found {len(prompts)} prompts and {len(completions)} completions."
        )
    raw: dict[Scorer, torch.Tensor] = {}
    for reward in rewards:
        link: Reward | None = reward
        while link is not None:
            if link.scorer not in raw:
                raw[link.scorer] = _score_all(link, prompts, completions, poll)
            link = link.gate
    rows = [_gated(reward, raw) for reward in rewards]
    return torch.stack(rows) if rows else torch.empty(0, len(completions), dtype=torch.float64)


def _gated(reward: Reward, raw: dict[Scorer, torch.Tensor]) -> torch.Tensor:
    """Return the reward's (N,) scores, with its bottom where its gate (itself gated) is not satisfied."""
    scores = raw[reward.scorer]
    if reward.gate is None:
        return scores
    # A NaN gate compares as false, hence counts as not satisfied.
    shut = ~(_gated(reward.gate, raw) >= reward.gate_threshold)
    return torch.where(shut & ~scores.isnan(), float(reward.scorer.value_range[0]), scores)


def _score_all(
    reward: Reward,
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    poll: Callable[[], None],
) -> torch.Tensor:
    if hasattr(reward.scorer, "score_batch") and completions:
        poll()
        scores = _score_batch(reward, prompts, completions)
    else:
        scores = []
        for prompt, completion in zip(prompts, completions, strict=True):
            poll()
            scores.append(_score_one(reward, prompt, completion))
    return torch.tensor([math.nan if s is None else s for s in scores], dtype=torch.float64)


def _score_batch(
    reward: Reward, prompts: Sequence[Prompt], completions: Sequence[Completion]
) -> list[float | None]:
    try:
        values = reward.scorer.score_batch(prompts, completions)
    except Exception as error:  # as in `_score_one`, of anyone's code
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RewardError(
            f"Reward {reward.name!r} ({reward.scorer.kind}) failed on a batch of {len(completions)} completions, "
            f"the first of them {shorten(completions[0].text)}: {reason}"
        ) from error
    each = zip(values, prompts, completions, strict=True)
    return [_checked(reward, value, prompt, completion) for value, prompt, completion in each]


def _score_one(reward: Reward, prompt: Prompt, completion: Completion) -> float | None:
    try:
        value = reward.scorer.score(prompt, completion)
    # A scorer may be anyone's code, so anything can go wrong in it; whatever it is must stop the
    # step under the name of this reward. Interrupts of the host come from `poll`, outside this
    # block.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RewardError(f"{_where(reward, prompt, completion)}: {reason}") from error
    return _checked(reward, value, prompt, completion)


def _checked(reward: Reward, value: object, prompt: Prompt, completion: Completion) -> float | None:
    """Return the score as a number inside the scorer's range, or None."""
    if value is None:
        return None
    bottom, top = reward.scorer.value_range
    if not isinstance(value, Real) or not bottom <= value <= top:
        raise RewardError(
            f"{_where(reward, prompt, completion)}: a score must be a number from {bottom:g} to "
            f"{top:g}, or None. Found {shorten(value)}."
        )
    return float(value)


def _where(reward: Reward, prompt: Prompt, completion: Completion) -> str:
    line = f" (line {prompt.line})" if prompt.line else ""
    return (
        f"Reward {reward.name!r} ({reward.scorer.kind}) failed on the prompt "
        f"{shorten(prompt.text)}{line} and the completion {shorten(completion.text)}"
    )
