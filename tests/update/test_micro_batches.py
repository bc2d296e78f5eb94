"""Micro-batches hold each row once and keep to their budget."""

from __future__ import annotations

import pytest
import torch

from gdpo.rollouts import Rollouts
from gdpo.update.micro_batches import micro_batches


def some_lengths(lengths: list[int]) -> Rollouts:
    """Completions of these lengths, each after a prompt of two tokens."""
    count, longest = len(lengths), max(lengths)
    prompts = torch.zeros(count, 2, dtype=torch.long)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    none = torch.zeros(count, longest)
    return Rollouts(prompts, prompts + 1, none.long(), mask, none, ())


def test_a_micro_batch_takes_the_tokens_of_two_of_the_longest_by_hand():
    # 2 x (2 + 8) = 20 tokens: the longest with one of 1, padded to 10 each; of the others all three, 3 x 3.
    found = micro_batches(some_lengths([1, 8, 1, 1, 1]), torch.arange(5), 2)
    assert [part.tolist() for part in found] == [[0, 2, 3], [4, 1]]


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_micro_batches_keep_to_their_budget_and_are_never_more(size):
    lengths = torch.randint(1, 60, (41,), generator=torch.Generator().manual_seed(size)).tolist()
    rows = torch.arange(1, 41)
    found = micro_batches(some_lengths(lengths), rows, size)
    assert sorted(torch.cat(found).tolist()) == rows.tolist()
    assert len(found) <= -(-40 // size)
    widths = [2 + max(lengths[i] for i in part) for part in found]
    assert widths == sorted(widths)
    for part, width in zip(found, widths, strict=True):
        assert len(part) * width <= size * (2 + max(lengths[1:]))
