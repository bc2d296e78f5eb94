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
from ..policies.policy import Policy
from ..prompts import Prompt
from ..rewards.reward import identify_reward
from ..settings import TrainSettings
from ..version import __version__

RUN_FILE = "run.json"
_MAX_BYTES = 64 * 2**20
_LIBRARIES = ("torch", "transformers", "peft", "torchjd", "bitsandbytes")


def identify(
    policy: Policy,
    prompts: Sequence[Prompt],
    heldout: Sequence[Prompt],
    objective: Objective,
    settings: TrainSettings,
) -> dict[str, Any]:
    """Everything that a run's result depends on, as JSON."""
    options = {k: v for k, v in asdict(settings).items() if k != "steps"}
    adapter = None
    if policy.adapter:
        digest = hashlib.sha256()
        for name, tensor in sorted(policy.adapter.state.items()):
            digest.update(name.encode() + tensor.float().numpy().tobytes())
        adapter = digest.hexdigest()
    return {
        "model": Path(policy.base.source).name,
        "weights": policy.base.digest,
        "precision": policy.base.precision,
        "adapter": adapter,
        "prompts": _digest(prompts),
        "heldout": _digest(heldout),
        "rewards": [identify_reward(reward) for reward in objective.rewards],
        "method": _by_name(objective.method, METHODS),
        "weighting": _by_name(objective.weighting, WEIGHTINGS),
        "dispersion_floor": objective.dispersion_floor,
        "settings": options,
    }


def _digest(prompts: Sequence[Prompt]) -> str:
    text = json.dumps([[p.messages, dict(p.fields)] for p in prompts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


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
        if file.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES // 2**20} MiB")
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content["identity"]["settings"], dict):
            raise TypeError("its settings are no object")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise TrainingError(
            f"{str(file)!r} cannot be read ({shorten(reason)}); choose another `run_name`."
        ) from error
    return content


def read_identity(folder: Path) -> dict[str, Any]:
    """The identity of the run in a folder, its settings among the other entries.

    Raises:
        TrainingError: As for `read_run`.
    """
    identity = read_run(folder)["identity"]
    return {**identity, **identity["settings"]}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Name, old and new value of what is not equal; `old` comes from a file and holds its settings itself."""
    new = json.loads(json.dumps({**new, **new["settings"]}))
    return [
        (key, old.get(key), new[key])
        for key in new
        if key != "settings" and old.get(key) != new[key]
    ]


def check_identity(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Compare the identity of the run in `folder` with that of the training that is to go on in it.

    Raises:
        TrainingError: They differ; the message names the first difference.
    """
    changed = differences(old, new)
    if changed:
        key, before, now = changed[0]
        raise TrainingError(
            f"The run {folder.name!r} was trained with another `{key}` ({shorten(before, 40)} there, "
            f"{shorten(now, 40)} here); choose another `run_name`."
        )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
