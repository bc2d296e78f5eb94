"""Two batches as one: each completion stays what it was."""

from __future__ import annotations

import torch
from small_training import PROMPTS

from gdpo.rollouts import joined, sample


def test_each_completion_stays_what_it_was(tiny_policy):
    model, tokenizer = tiny_policy.base.model, tiny_policy.base.tokenizer
    draws = {"group_size": 2, "temperature": 1.0}
    first = sample(model, tokenizer, PROMPTS[:2], max_new_tokens=3, seed=0, **draws)
    second = sample(model, tokenizer, PROMPTS[2:4], max_new_tokens=7, seed=1, **draws)
    for one, other in ((first, second), (second, first)):
        both = joined(one, other)
        assert both.completions == one.completions + other.completions
        assert both.lengths.tolist() == [*one.lengths.tolist(), *other.lengths.tolist()]
        for name in ("prompt_ids", "completion_ids", "logprobs", "entropy"):
            mask = "prompt_mask" if name == "prompt_ids" else "completion_mask"
            whole = getattr(both, name)[getattr(both, mask).bool()]
            parts = [getattr(part, name)[getattr(part, mask).bool()] for part in (one, other)]
            assert torch.equal(whole, torch.cat(parts)), name
