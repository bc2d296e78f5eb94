"""A batch of sampled completions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..rewards.scorer import Completion


@dataclass(frozen=True)
class Rollouts:
    """N = B * G completions; those of prompt b are rows b*G to (b+1)*G - 1.

    Attributes:
        prompt_ids, prompt_mask: `(N, P)`, padded on the left.
        completion_ids, completion_mask: `(N, T)`, padded on the right; the mask covers the stop token.
        logprobs: `(N, T)`, of the sampled tokens at the sampling temperature; 0 where masked.
        completions: Text, token count and whether the length limit cut it, for each row.
        entropy: `(N, T)`, of the distribution at each step, in nats; 0 where masked.
    """

    prompt_ids: Tensor
    prompt_mask: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    logprobs: Tensor
    completions: tuple[Completion, ...]
    entropy: Tensor | None = None

    @property
    def lengths(self) -> Tensor:
        """Return tokens of each completion, `(N,)`."""
        return self.completion_mask.sum(1)
