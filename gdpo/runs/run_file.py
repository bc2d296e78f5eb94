"""`run.json`: what a run is, so that it goes on with the same settings only."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import MethodError, TrainingError, shorten
from ..identity import UnidentifiedError, identify_fields
from ..objective.methods import METHODS, Method
from ..objective.objective import Objective
from ..objective.weighting import WEIGHTINGS, Weighting
from ..optimizers import NATURAL
from ..plain_files import read_text
from ..policies.policy import Policy
from ..prompts import Prompt
from ..rewards.reward import identify_reward
from ..settings import TrainSettings
from ..version import __version__
from .differences import ROWS, describe_base, sum_up

RUN_FILE = "run.json"
# The newest that is known. 1 is what had no `format`; 3 is that of a run that went on with other rows, whose order a
# version before would not know. All others are still written as 2.
FORMAT, _USUAL, WITH_PAST = 3, 2, 3
_LIBRARIES = ("torch", "transformers", "peft", "torchjd", "bitsandbytes")


def identify(
    policy: Policy,
    prompts: Sequence[Prompt],
    heldout: Sequence[Prompt],
    objective: Objective,
    settings: TrainSettings,
) -> dict[str, Any]:
    """Everything that a run's result depends on, as JSON."""
    options = {k: v for k, v in asdict(settings).items() if k not in _unused(settings.optimizer)}
    adapter = None
    if policy.adapter:
        digest = hashlib.sha256()
        for name, tensor in sorted(policy.adapter.state.items()):
            digest.update(name.encode() + tensor.float().numpy().tobytes())
        adapter = digest.hexdigest()
    (together, rows), (held_together, held_rows) = sum_up(prompts), sum_up(heldout)
    return {
        "model": Path(policy.base.source).name,
        **describe_base(policy.base),
        "precision": policy.base.precision,
        "adapter": adapter,
        "prompts": together,
        "heldout": held_together,
        "rewards": [identify_reward(reward) for reward in objective.rewards],
        "method": _by_name(objective.method, METHODS),
        "weighting": _by_name(objective.weighting, WEIGHTINGS),
        "dispersion_floor": objective.dispersion_floor,
        "settings": options,
        ROWS: {"prompts": rows, "heldout": held_rows},
    }


def _unused(optimizer: str) -> tuple[str, ...]:
    """Settings by which no run is told from another: what the optimiser does not look at, and how long it runs."""
    if optimizer == NATURAL:
        return "steps", "learning_rate", "max_grad_norm"
    return "steps", "step_size"


def _by_name(value: Method | Weighting, known: Mapping[str, Method | Weighting]) -> Any:
    """The name of what is built in; of a caller's own method or weighting its parts too."""
    if known.get(value.name) is value:
        return value.name
    try:
        return {"name": value.name, "parts": identify_fields(value)}
    except UnidentifiedError as error:
        raise MethodError(
            f"{type(value).__name__} {value.name!r} holds {error}, by which a run could not be told from another; "
            "make it of functions, numbers and texts."
        ) from error


def describe_run(
    identity: dict[str, Any], source: str, workflow: dict[str, Any] | None
) -> dict[str, Any]:
    """The content of `run.json`.

    Args:
        identity: From `identify`.
        source: Folder or hub id of the base, where the run's policy finds it again from any working folder.
        workflow: The graph that trained it, if any.
    """
    return {
        "format": _USUAL,
        "gdpo": __version__,
        "identity": identity,
        "source": str(Path(source).absolute()) if Path(source).is_dir() else source,
        "versions": _versions(),
        "workflow": workflow,
    }


def read_run(folder: Path) -> dict[str, Any]:
    """The content of a run's `run.json`.

    Raises:
        TrainingError: There is none, or it is not what a run writes.
    """
    file = folder / RUN_FILE
    if not file.is_file():
        raise TrainingError(f"{str(folder)!r} holds no run ({RUN_FILE} is missing); train first.")
    try:
        content = json.loads(read_text(file))
        if not isinstance(content["identity"]["settings"], dict):
            raise TypeError("its settings are no object")
        version = content.get("format", 0)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise TrainingError(
            f"{str(file)!r} cannot be read ({shorten(reason)}); restore it from a copy, or choose another `run_name`."
        ) from error
    if isinstance(version, int) and version > FORMAT:
        raise TrainingError(
            f"{str(file)!r} was written by a newer version of this pack (format {version}, known up to {FORMAT}); "
            "update the pack, or choose another `run_name`."
        )
    return content


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
