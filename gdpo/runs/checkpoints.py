"""Checkpoints of a run: adapter, optimiser and director at a step, written whole or not at all.

Everything else that a step depends on (prompts, random numbers, learning rate) follows from the step's
number and the settings, so there is nothing more to save. JSON and safetensors only.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from torch import Tensor

from ..atomic import replacing_folder
from ..errors import PolicyError, TrainingError, shorten
from ..policies.adapter import Adapter, load_adapter, save_adapter
from ..to_json import to_json
from .shape import MisfitError, Number, checker

_KEEP = 2  # the newest, and one before it in case the disk lies
# What Python raises on files that are absent, damaged or made up.
_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    MisfitError,
)


class _State(TypedDict):
    """What `state.json` holds. The optimiser's numbers are by the path to them, e.g. "0.step"."""

    step: int
    optimizer: dict[str, Number]
    director: dict[str, Any]


_state_from_json = checker(_State)


def save_checkpoint(
    folder: Path, step: int, adapter: Adapter, optimizer: Any, state: dict[str, Any]
) -> None:
    """Write `folder/checkpoints/step-<step>`, then drop the oldest ones.

    Args:
        folder: The run's folder.
        step: The last finished step.
        adapter: The trained adapter after that step.
        optimizer: The optimiser after that step.
        state: What else the next step depends on, JSON.
    """
    from safetensors.torch import save_file

    tensors, numbers = _flatten(optimizer.state_dict()["state"])
    content = to_json({"step": step, "optimizer": numbers, **state})
    with replacing_folder(folder / "checkpoints" / f"step-{step:06d}") as made:
        save_adapter(adapter, made)
        save_file(tensors, made / "optimizer.safetensors")
        (made / "state.json").write_text(json.dumps(content), encoding="utf-8")
    for old in _steps(folder)[:-_KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def newest_checkpoint(folder: Path) -> Path | None:
    """The run's newest whole checkpoint, or None."""
    found = _steps(folder)
    return found[-1] if found else None


def load_checkpoint(checkpoint: Path, optimizer: Any) -> tuple[Adapter, dict[str, Any]]:
    """Read the adapter and the state, and put the optimiser where it was.

    Raises:
        TrainingError: A file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        adapter = load_adapter(checkpoint)
        state = _state_from_json(json.loads((checkpoint / "state.json").read_text("utf-8")))
        # Copies: a file that stays mapped into memory cannot be deleted on Windows.
        tensors = {k: v.clone() for k, v in load_file(checkpoint / "optimizer.safetensors").items()}
        slots = _unflatten(tensors, state.pop("optimizer"))
        if state["step"] != _step_of(checkpoint):
            raise MisfitError("that of the folder", state["step"], ["step"])
    except (*_UNREADABLE, SafetensorError, PolicyError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise TrainingError(
            f"The checkpoint {str(checkpoint)!r} cannot be read ({shorten(reason, 200)}); delete it to go on "
            "from the one before."
        ) from error
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    return adapter, state


def _steps(folder: Path) -> list[Path]:
    """The whole checkpoints, oldest first; one that could not be deleted completely is none."""
    found = (folder / "checkpoints").glob("step-*")
    return sorted((p for p in found if _step_of(p) and (p / "state.json").is_file()), key=_step_of)


def _step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name; 0 for a folder of another name."""
    digits = checkpoint.name.removeprefix("step-")
    return int(digits) if re.fullmatch(r"[0-9]{6,9}", digits) else 0


def _flatten(slots: dict[int, dict[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's state as tensors and numbers, named by the path to them; 8-bit states are nested."""
    flat: dict[str, Any] = {}

    def add(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                add(f"{path}.{name}", item)
        else:
            flat[path] = value

    for index, slot in slots.items():
        add(str(index), slot)
    tensors = {
        key: value.detach().cpu().contiguous().clone()
        for key, value in flat.items()
        if isinstance(value, Tensor)
    }
    return tensors, {key: value for key, value in flat.items() if key not in tensors}


def _unflatten(tensors: dict[str, Tensor], numbers: dict[str, Any]) -> dict[int, dict[str, Any]]:
    slots: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        index, *path, name = key.split(".")
        place = slots.setdefault(int(index), {})
        for part in path:
            place = place.setdefault(part, {})
        place[name] = value
    return slots
