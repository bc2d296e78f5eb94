"""Stands around every node function: right kind of values in, and no inference mode inside.

ComfyUI runs all nodes under `torch.inference_mode()`. Tensors born there can never take part in a
training, and `enable_grad` does not leave it. It does not check linked values either.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from ...gdpo.errors import WorkflowError, shorten
from ...gdpo.export.pipeline import GGUF
from ...gdpo.objective.objective import Objective
from ...gdpo.policies.policy import Policy
from ...gdpo.prompts import Prompt
from ...gdpo.rewards import Reward
from ...gdpo.training.trainer import TrainResult
from .declared import declared_inputs

# Socket type -> what a value of it is, and which node gives it.
SOCKETS: Mapping[str, tuple[type, str]] = {
    "GDPO_MODEL": (Policy, "Load Model or GDPO Train"),
    "GDPO_PROMPTS": (tuple, "Load Prompts"),
    "GDPO_REWARD": (Reward, "Define Reward"),
    "GDPO_REWARDS": (Objective, "Combine Rewards"),
    "GDPO_RUN": (TrainResult, "GDPO Train"),
    "GDPO_GGUF": (GGUF, "Export GGUF"),
}


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a node's function: checks its inputs, fills in defaults, leaves inference mode."""

    @functools.wraps(function)
    def run(self: object, **values: object) -> object:
        import torch

        checked = checked_inputs(type(self), values)
        with torch.inference_mode(False):
            return function(self, **checked)

    return run


def checked_inputs(node_class: type, values: Mapping[str, object]) -> dict[str, object]:
    """Return the values that a node's function gets.

    Args:
        node_class: its `INPUT_TYPES` says what is right.
        values: what the host passes, hidden inputs included.

    Returns:
        `values`, with the default of each absent widget.

    Raises:
        WorkflowError: a value is absent, of the wrong type, or out of range.
    """
    hidden = node_class.INPUT_TYPES().get("hidden", {})
    checked = {name: value for name, value in values.items() if name in hidden}
    for name, declared in declared_inputs(node_class).items():
        value = values.get(name)
        if value is None:
            value = declared.options.get("default")
        if value is None:
            if declared.required:
                raise WorkflowError(f"input {name!r}: is required")
            continue
        try:
            is_socket = declared.type_name in SOCKETS
            checked[name] = (
                _check_socket(declared.type_name, value) if is_socket else declared.check(value)
            )
        except WorkflowError as error:
            raise WorkflowError(f"input {name!r}: {error}") from error
    return checked


def _check_socket(kind: str, value: object) -> object:
    """Tell what a value is by the value itself: an any-type output connects to everything."""
    expected, source = SOCKETS[kind]
    good = isinstance(value, expected)
    if good and expected is tuple and isinstance(value, tuple):
        good = bool(value) and all(isinstance(item, Prompt) for item in value)
    if not good:
        found = shorten(type(value).__name__)
        raise WorkflowError(f"needs a {kind} (from {source}), found a value of type {found}")
    return value
