"""What an arm is: a way in which the rewards of a run are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gdpo.objective.methods import Method
from gdpo.objective.objective import Objective, combine_rewards
from gdpo.objective.weighting import Weighting
from gdpo.rewards.reward import Reward
from gdpo.settings import TrainSettings
from gdpo.training.trainer import Parts


@dataclass(frozen=True)
class Arm:
    """How the rewards of a run are trained.

    Attributes:
        method, weighting, floor: As in `combine_rewards`.
        parts: Parts of a step, as in `train`.
        gate: True if brevity counts only where the answer is right.
        settings: Differences from the budget's settings; the rollouts of a step stay as many.
    """

    method: str | Method = "gdpo"
    weighting: str | Weighting = "directed"
    floor: float = 0.7
    parts: Parts = field(default_factory=Parts)
    gate: bool = False
    settings: tuple[tuple[str, Any], ...] = ()

    def objective(self, rewards: Sequence[Reward]) -> Objective:
        """Return the rewards under this arm."""
        if self.gate:
            rewards = _gated(rewards)
        return combine_rewards(
            rewards, method=self.method, weighting=self.weighting, dispersion_floor=self.floor
        )

    def change(self, settings: TrainSettings) -> TrainSettings:
        """Return the settings under this arm."""
        return replace(settings, **dict(self.settings))


def _gated(rewards: Sequence[Reward]) -> list[Reward]:
    """Brevity counts where the first reward, the right answer, was earned."""
    gate = rewards[0]
    return [
        replace(r, gate=gate, gate_threshold=gate.scorer.value_range[1])
        if r.name.startswith("brevity")
        else r
        for r in rewards
    ]
