"""The passes of a step, tried on two tokens: some families of models cannot be sampled or differentiated in this way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from ..errors import MODEL_REFUSALS, GDPOError, TrainingError, shorten
from ..out_of_memory import is_out_of_memory
from ..policies.base import Base
from ..prompts import Prompt
from ..rollouts import sample
from ..settings import TrainSettings
from ..update.own_output import check_output
from ..update.passes import differentiate

_PROMPTS = 2
_TOKENS = 2


def rehearse(
    model: Any,
    base: Base,
    prompts: Sequence[Prompt],
    settings: TrainSettings,
    poll: Callable[[], None],
) -> None:
    """Sample two tokens for two prompts and pass them forward and back, and leave everything as it was.

    Args:
        model: Model with the trainable adapter on it.
        base: Its base.
        prompts: Some that fit; the first ones are used.
        settings: Settings of the training.
        poll: Called before each layer; may raise to stop.

    Raises:
        TrainingError: The model cannot be sampled, its gradients cannot be had, or its logits are others than the
            training's; the message names its family.
    """
    rows = list(prompts[:_PROMPTS])
    with _named(model):
        check_output(model)
        rollouts = sample(
            model,
            base.tokenizer,
            rows,
            max_new_tokens=min(_TOKENS, settings.max_new_tokens),
            temperature=settings.temperature,
            seed=0,
            poll=poll,
        )
        ones = torch.ones(len(rows), dtype=torch.float64)
        differentiate(model, rollouts, ones, ones[None], replace(settings, micro_batch=1), poll)


@contextmanager
def _named(model: Any) -> Iterator[None]:
    """Tell which family of models it is that something foreign was raised for; memory is the step's own concern."""
    try:
        yield
    except GDPOError:
        raise
    except MODEL_REFUSALS as error:
        if is_out_of_memory(error):
            return
        reason = shorten(" ".join(f"{type(error).__name__}: {error}".split()), 160)
        raise TrainingError(
            f"{model.config.model_type!r} models cannot be sampled or trained here ({reason}); train a model of another family."
        ) from error
