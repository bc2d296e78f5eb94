"""Models in float64 and their completions."""

from __future__ import annotations

import pytest
from prompt_groups import drawn
from random_models import adapted, random_model
from rounding import float64_throughout
from separate_passes import training

__all__ = ["exact", "llama", "training"]


@pytest.fixture
def exact():
    """Both ways compute the same sums, in another order: float64 shows any other difference."""
    with float64_throughout():
        yield


@pytest.fixture
def llama(exact):
    """A Llama with an adapter, and completions of different lengths in groups."""
    model = adapted(random_model("llama"))
    rollouts = drawn(model)  # in float32, as in a training
    return model.double(), rollouts
