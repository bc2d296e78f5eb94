"""Prompts whose completions say nothing of the reward that is furthest behind.

Where all completions of a prompt earn the same of a reward, its gradient is 0 there, and what the other rewards do to it
is seen in no inner product. Followed alone, they settle on one answer that pleases them, and the right one, which was
rare, is never sampled again. So such a prompt is sampled a second time, and waits if it still says nothing: it asks for
less change in this step, or none. How much it waits, and how many are sampled again, follows what second draws have
found lately: prompts that no sampling can help are not waited for.

A second draw leaves the direction unbiased: it is independent of the first one, which is kept, so that a prompt's part of
each reward's gradient is 1 + P(sampled again) times what it was in the mean. Waiting does not: it is a choice, and measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .advantages import is_constant

# A reward that lacks less of its way is not waited for.
_LEAST_DEFICIT = 0.1
# Share of second draws that say something from which on stuck prompts wait wholly.
_WORTH_WAITING = 0.07
# Second draws are remembered over about ten steps, as the Gramian is.
_DECAY = 0.9


def stuck(rewards: Tensor, targets: Tensor, deficits: Tensor, alive: Tensor) -> Tensor:
    """Tell which prompts say nothing of the reward furthest behind, `(B,)`.

    Args:
        rewards: `(K, B, G)`; a prompt that the reward could not score is not stuck.
        targets: What is good enough, `(K,)`: a prompt on which it is reached is not stuck.
        deficits: Share of its way that each reward lacks, `(K,)`.
        alive: Which rewards count: wished for, and told completions apart at some time, `(K,)`; a reward that never
            did is not waited for.
    """
    furthest = int(deficits.masked_fill(~alive, -1.0).argmax())
    behind = bool(alive[furthest]) and float(deficits[furthest]) >= _LEAST_DEFICIT
    found = is_constant(rewards[furthest][None])[0]
    return found & (rewards[furthest].nanmean(-1) < targets[furthest]) & behind


def held_back(advantages: Tensor, is_stuck: Tensor, share: float) -> Tensor:
    """Return the advantages `(K, B, G)` with those of stuck prompts 1 - `share` times as large, unless all are stuck."""
    if is_stuck.all():
        return advantages
    return torch.where(is_stuck[:, None], (1 - share) * advantages, advantages)


@dataclass
class Patience:
    """How much stuck prompts wait, by what second draws have found lately.

    Attributes:
        found: Share of the latest second draws that said something, 0 to 1; thought to be 1 before any was made.
    """

    found: float = 1.0

    def learn(self, still_stuck: Tensor) -> None:
        """Take in which of the prompts that were sampled again are still stuck, `(E,)`."""
        now = 1.0 - float(still_stuck.double().mean())
        self.found = _DECAY * self.found + (1 - _DECAY) * now

    @property
    def share(self) -> float:
        """Return how much stuck prompts wait, 0 to 1."""
        return min(1.0, self.found / _WORTH_WAITING)
