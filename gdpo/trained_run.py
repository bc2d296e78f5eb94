"""The folder of a run as a value: what was trained in it, how it went, and on what it can go on."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import TrainingError, shorten
from .policies.adapter import load_adapter
from .policies.loading import load_policy
from .policies.policy import Policy
from .runs.differences import base_difference
from .runs.history import read_history
from .runs.record import StepRecord
from .runs.restore import newest_checkpoint
from .runs.run_file import read_run
from .settings import TrainSettings


class TrainedRun:
    """A run folder, finished or interrupted, and what was trained in it.

    Attributes:
        folder: Holds `run.json`, the history, the checkpoints and the adapter.
    """

    def __init__(self, folder: str | Path, policy: Policy | None = None) -> None:
        """Open a folder.

        Args:
            folder: Of the run.
            policy: The trained policy, where it is at hand; otherwise it is loaded when first asked for.

        Raises:
            TrainingError: The folder holds no run.
        """
        self.folder = Path(folder)
        self._description = read_run(self.folder)
        if policy is not None:
            self.policy = policy

    def __repr__(self) -> str:
        return f"TrainedRun({str(self.folder)!r}, {self.step} steps)"

    @cached_property
    def policy(self) -> Policy:
        """The trained policy: the newest adapter on the base that `run.json` names.

        Raises:
            TrainingError: The base is not where it was, or nothing has been trained yet.
            PolicyError: The base or the adapter cannot be loaded.
        """
        return self.load()

    @property
    def source(self) -> str | None:
        """Folder or hub id of the base, as it was when the run began; None where `run.json` does not say it."""
        source = self._description.get("source")
        return source if isinstance(source, str) else None

    def load(self, base: str | Path | Policy | None = None, **options: Any) -> Policy:
        """The trained policy on a base that is loaded now, or on that of another policy, which it then shares.

        Args:
            base: Folder or hub id of the base, or a policy on it; by default what `run.json` names.
            options: As in `load_policy`; the precision is by default that of the training.

        Raises:
            TrainingError: The base is another one than that of the run, or nothing has been trained yet.
            PolicyError: The base or the adapter cannot be loaded.
        """
        adapter = load_adapter(self._adapter_folder())
        identity = self._description["identity"]
        source = base or self.source
        if isinstance(source, Policy):
            loaded, source = source.base, source.base.source
        elif source:
            options.setdefault("precision", identity.get("precision", "auto"))
            loaded = load_policy(source, **options).base
        else:
            raise TrainingError(
                f"The run {self.folder.name!r} does not say where its base is; name it with `load(base=...)`."
            )
        changed = base_difference(identity, loaded)
        if changed:
            raise TrainingError(
                f"The model {shorten(str(source))} is not the one that the run {self.folder.name!r} was trained on: it "
                f"has {changed}; name the right one with `load(base=...)`."
            )
        return Policy(loaded, adapter, self.folder)

    @property
    def settings(self) -> TrainSettings:
        """The settings of the training; `steps` is how many were made."""
        known = {item.name for item in fields(TrainSettings)}
        given = self._description["identity"].get("settings", {})
        chosen = {name: value for name, value in given.items() if name in known}
        return TrainSettings(**{**chosen, "steps": max(1, self.step)})

    @property
    def history(self) -> tuple[StepRecord, ...]:
        """One record for each step, in order."""
        return read_history(self.folder)

    @property
    def step(self) -> int:
        """The last step that is in the history."""
        records = self.history
        return int(records[-1]["step"]) if records else 0

    @property
    def rewards(self) -> dict[str, tuple[float | None, float | None]]:
        """Mean of each reward before and after: on the held-out prompts, or of the first and last step without any."""
        records = self.history
        evaluated = [record["eval"]["rewards"] for record in records if "eval" in record]
        scored = evaluated or [record["rewards"] for record in records if "rewards" in record]
        if not scored:
            return {}
        first, last = scored[0], scored[-1]
        return {name: (first[name]["mean"], last[name]["mean"]) for name in first}

    def plot(self, path: str | Path | None = None) -> Any:
        """The convergence figure, `(height, width, 3)` in uint8, written to `path` as PNG if that is given."""
        from .plotting.figure import plot_convergence

        return plot_convergence({self.folder.name: self.history}, path)

    def _adapter_folder(self) -> Path:
        # A finished run may have been made longer since; its last checkpoint is never older than its adapter.
        finished = self.folder / "adapter"
        found = newest_checkpoint(self.folder) or (finished if finished.is_dir() else None)
        if found is None:
            raise TrainingError(
                f"The run {self.folder.name!r} has no adapter yet; train it for at least one step."
            )
        return found


def open_run(folder: str | Path) -> TrainedRun:
    """A finished or interrupted run: its policy can be exported, compared and trained further.

    Raises:
        TrainingError: The folder holds no run.
    """
    return TrainedRun(folder)
