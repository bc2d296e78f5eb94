r"""Prompts that pass through the model once for all their completions: P + G R positions instead of G (P + R).

The prompts run with a cache. The keys and values in it are spread to the completions, which run in micro-batches
from the prompt's last token on: it predicts their first one. On the way back each micro-batch leaves what reaches
the prompts' keys and values; when all have passed, one backward pass of the prompts follows.

One row stands for G completions there, so completion i's part is multiplied by its coefficient c_i before the
sum. What arrives at the LoRA matrices is then exactly the prompts' share of \sum_i c_i s_i: the step is the same
as without sharing. What cannot be told apart any more is each completion's own share of a prompt's positions.
The rewards' sketches and |s_i|^2 therefore count the positions from the prompt's last token on, where the losses
are: they belong to the gradient that takes the rest of the prompt as given.

What that changes on the bundled model with its own prompts is measured by `benchmarks/sharing.py`: |s_i|^2 is 0.8 of
the whole; cosines differ by 0.13 (root mean square) in the first five steps, where conflicts look smaller than they
are, and by 0.05 later; the weights of "directed" by 0.02 on average, and by 0.2 to 0.3 in 2 of 40 steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..policies.adapter import decoder_of, innermost
from ..policies.compat import cached_layers, full_cache
from ..rollouts import Rollouts
from .logprobs import TokenScores, read_out
from .reward_gradients import RewardGradients


class SharedPrompts:
    """B' prompts that have passed through the decoder, and what their completions leave for the way back."""

    def __init__(
        self, model: Any, rollouts: Rollouts, owners: Tensor, combination: Tensor | None = None
    ) -> None:
        """Pass the prompts, all but their last token.

        Args:
            model: The model, with its adapter on or off.
            rollouts: N completions.
            owners: Row with the same prompt for each of them, or -1 if it is not scored here; `(N,)`.
            combination: c, `(N,)`; needed for a backward pass.
        """
        self._inner, self._rollouts = innermost(model), rollouts
        leaders, places = owners[owners >= 0].unique(return_inverse=True)
        self._places = torch.full_like(owners, -1)
        self._places[owners >= 0] = places  # of each completion's prompt among the leaders
        ids, mask = rollouts.prompt_ids[leaders], rollouts.prompt_mask[leaders]
        start = mask.shape[1] - int(mask.sum(1).max())  # columns that are padding in all rows
        self._mask, cache = mask[:, start:], full_cache()
        self._decode(ids[:, start:-1], self._mask[:, :-1], cache)
        # Keys and values of the first layer, of the second, and so on, each (B', heads, P, d).
        self._kept = [part for layer in cached_layers(cache) for part in (layer.keys, layer.values)]
        self._combination = combination
        self._cotangents = [
            torch.zeros(t.shape, dtype=_sum_type(t), device=t.device) if t.requires_grad else None
            for t in self._kept
        ]

    def score(self, rows: Tensor, temperature: float) -> TokenScores:
        """As `score_tokens`; a backward pass of the result stops at the prompts."""
        rollouts = self._rollouts
        mask, places = rollouts.completion_mask[rows], self._places[rows]
        length = int(mask.sum(1).max())
        mask, targets = mask[:, :length], rollouts.completion_ids[rows, :length]
        ids = torch.cat([rollouts.prompt_ids[rows, -1:], targets[:, :-1]], 1)
        attention = torch.cat([self._mask[places], mask[:, :-1].to(self._mask.dtype)], 1)
        hidden = self._decode(ids, attention, self._spread(rows, places))
        return read_out(self._inner, hidden, targets, mask, temperature)

    def backward(self, gradients: RewardGradients) -> None:
        """Make the prompts' own backward pass, after those of all their completions."""
        pairs = zip(self._kept, self._cotangents, strict=True)
        known = [(kept, found.to(kept.dtype)) for kept, found in pairs if found is not None]
        if known:  # or there is no adapter below any keys or values
            gradients.backward_shared(*zip(*known, strict=True))

    def _decode(self, ids: Tensor, attention: Tensor, cache: Any) -> Tensor:
        """Hidden states of `ids`, the last columns of `attention`."""
        positions = (attention.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        return decoder_of(self._inner)(
            input_ids=ids,
            attention_mask=attention,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )[0]

    def _spread(self, rows: Tensor, places: Tensor) -> Any:
        """Return a cache with each completion's copy of its prompt's keys and values."""
        shares = None
        if self._combination is not None:  # c_i in row `places[i]`, column i
            kind = {"dtype": _sum_type(self._kept[0]), "device": places.device}
            shares = torch.zeros(len(self._mask), len(rows), **kind)
            columns = torch.arange(len(rows), device=places.device)
            shares[places, columns] = self._combination.to(shares)[rows]
        copies = []
        for kept, found in zip(self._kept, self._cotangents, strict=True):
            if found is None or shares is None:
                copies.append(kept.detach()[places])
            else:
                leaf = kept.detach().requires_grad_()
                copies.append(_Spread.apply(leaf, places, shares, found))
        cache = full_cache()
        for layer in range(len(copies) // 2):
            cache.update(copies[2 * layer], copies[2 * layer + 1], layer)
        return cache


class _Spread(torch.autograd.Function):
    """Rows to their copies; on the way back the copies' weighted sums are added to a buffer."""

    @staticmethod
    def forward(ctx: Any, kept: Tensor, places: Tensor, shares: Tensor, found: Tensor) -> Tensor:
        ctx.shares, ctx.found = shares, found
        return kept[places]

    @staticmethod
    def backward(ctx: Any, cotangents: Tensor) -> tuple[None, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  one gradient an output
        found = ctx.found
        found.flatten(1).addmm_(ctx.shares.to(found), cotangents.flatten(1).to(found))
        return None, None, None, None


def _sum_type(tensor: Tensor) -> torch.dtype:
    """Return the type in which numbers of `tensor` are added up: float32, or float64 where they are of it."""
    return torch.promote_types(tensor.dtype, torch.float32)
