"""The policy: a frozen causal language model, shared, plus an optional LoRA adapter, exchangeable.

The base is loaded once and never changed. An adapter is data (a configuration and tensors on the CPU);
`attached` puts it onto the base for as long as a `with` block lasts. Base and several tuned policies can
therefore be compared side by side without a second copy of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .adapter import Adapter, fresh_config, unwrap, wrap, write_adapter
from .base import Base, bring_back


@dataclass(frozen=True, eq=False)
class Policy:
    """A base, the adapter that was trained for it (or none), and the run folder it came from."""

    base: Base
    adapter: Adapter | None = None
    run: Path | None = None


@contextmanager
def attached(policy: Policy) -> Iterator[Any]:
    """Yield the model with the policy's adapter on it, in evaluation mode; take it off again.

    The base is locked meanwhile: two policies on one base take turns.
    """
    with policy.base.lock:
        bring_back(policy.base)
        if policy.adapter is None:
            yield policy.base.model
            return
        model = wrap(policy.base.model, policy.adapter.config)
        try:
            write_adapter(model, policy.adapter)
            yield model.eval()
        finally:
            unwrap(model)


@contextmanager
def trainable(policy: Policy, *, rank: int, alpha: int, seed: int) -> Iterator[Any]:
    """Yield the base with a trainable adapter: a copy of the policy's own, or a fresh LoRA.

    A fresh one covers all linear layers (which matches full fine-tuning in RL, "LoRA without regret") that take each
    completion by itself, see `targets.py`, and starts as the identity; its initial values depend on `seed` alone.
    """
    config = policy.adapter.config if policy.adapter else fresh_config(rank, alpha)
    cards = [torch.device(policy.base.device)] if policy.base.device != "cpu" else []
    with policy.base.lock:
        bring_back(policy.base)
        with torch.random.fork_rng(devices=cards):
            torch.manual_seed(seed)
            model = wrap(policy.base.model, config)
        try:
            if policy.adapter:
                write_adapter(model, policy.adapter)
            yield model.eval()  # evaluation mode: dropout would make the policy differ from its samples
        finally:
            unwrap(model)
