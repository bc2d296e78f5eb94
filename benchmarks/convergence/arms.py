"""The arms: methods under their own names, and `gdpo` with one part exchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from gdpo.objective import advantages, director, weighting
from gdpo.objective.methods import Objective, combine_rewards
from gdpo.rewards.reward import Reward
from gdpo.settings import TrainSettings
from gdpo.training import trainer


@dataclass(frozen=True)
class Arm:
    """How the rewards of a run are trained.

    Attributes:
        method, weighting, floor: As in `combine_rewards`.
        patches: What is exchanged in the library while the run lasts: (owner, name, value).
        gate: Whether brevity counts only where the answer is right.
        settings: What differs from the budget's settings; the rollouts of a step stay as many.
    """

    method: str = "gdpo"
    weighting: str = "directed"
    floor: float = 0.7
    patches: tuple[tuple[Any, str, Any], ...] = ()
    gate: bool = False
    settings: tuple[tuple[str, Any], ...] = ()

    def objective(self, rewards: Sequence[Reward]) -> Objective:
        """The rewards under this arm."""
        if self.gate:
            rewards = _gated(rewards)
        return combine_rewards(
            rewards, method=self.method, weighting=self.weighting, dispersion_floor=self.floor
        )

    def change(self, settings: TrainSettings) -> TrainSettings:
        """The settings under this arm."""
        return replace(settings, **dict(self.settings))

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """The library with this arm's parts exchanged."""
        with ExitStack() as stack:
            for owner, name, value in self.patches:
                stack.enter_context(patch.object(owner, name, value))
            yield


def _gated(rewards: Sequence[Reward]) -> list[Reward]:
    """Brevity counts where the first reward, the right answer, was earned."""
    gate = rewards[0]
    return [
        replace(r, gate=gate, gate_threshold=gate.scorer.value_range[1])
        if r.name.startswith("brevity")
        else r
        for r in rewards
    ]


def _group_scores(objective: Objective, rewards: Tensor, scale: Tensor) -> Tensor:
    return advantages.decoupled(rewards)


def _raw(raw: Tensor, advantage: Tensor, squared_norms: Tensor) -> Tensor:
    return raw


def _shrinking(objective: Objective, weights: Tensor, parts: Tensor, *rest: Any) -> Tensor:
    """Steps that get shorter near the targets: not divided by the batch's deviation."""
    combined = torch.einsum("k,kbg->bg", weights, parts)
    return combined / objective.preferences.square().sum().sqrt()


def _working_weights(self: Any, active: Tensor) -> Tensor:
    """Not scaled to sum 1."""
    preferences, deficit = self.objective.preferences[active], self._deficits()[active]
    if self._gramian is None:
        return preferences
    matrix = director.geometry.positive_semidefinite(self._gramian[active][:, active])
    return weighting.weigh(self.objective.weighting, matrix, preferences, deficit)


class _Smoothed(director.Director):
    """Weights that follow averages: of progress over some ten steps, and of the weights over five."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective)
        self._average: Tensor | None = None

    def observe(self, rewards: Tensor) -> Tensor:
        """Rewards count by their average from here on."""
        before = self._means
        parts = super().observe(rewards)
        self._means = director._smooth(before, self._means, 0.9)
        return parts

    def _weights(self, active: Tensor) -> Tensor:
        self._average = director._smooth(self._average, super()._weights(active), 0.8)
        return self._average


def _as_a_whole(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
    """The step as a whole is projected, off the rewards that lag behind the mean; the parts may push them back."""
    preference, matrix = weighting.working_preference(preferences, deficit), gramian.tolist()
    order = deficit.argsort(descending=True, stable=True).tolist()
    behind = [k for k in order if deficit[k] > deficit.mean() + 0.05 and matrix[k][k] > 0]
    weights = weighting._project(matrix, preference.tolist(), behind, [0.0] * len(matrix))
    return torch.tensor(weights, dtype=gramian.dtype).clamp(max=4 * float(preference.max()))


def _loud(preferences: Tensor, deficit: Tensor) -> Tensor:
    """Maintenance in proportion to the preference."""
    return preferences * (deficit + 0.2)


def _prompt_by_prompt(self: Any, rewards: Tensor) -> Tensor:
    """Advantages times how much each reward is still needed on that very prompt, from this step's scores alone.

    Nothing is smoothed, so nothing lags behind: to first order the steps climb a fixed function, minus the
    squared ways that are left, instead of following weights that chase the rewards.
    """
    parts, objective = _observe(self, rewards), self.objective
    deficit = weighting.deficits(
        rewards.nanmean(-1),  # (K, B)
        self._starts[:, None],
        objective.targets[:, None],
        objective.ranges[:, None],
    ).nan_to_num(1.0)
    least = 0.2 * objective.preferences.mean() / objective.preferences
    return parts * (deficit + least[:, None])[..., None]


_observe = director.Director.observe
_PROMPTS = ((director.Director, "observe", _prompt_by_prompt),)
_WHOLE = ((weighting, "WEIGHTINGS", {**weighting.WEIGHTINGS, "directed": (_as_a_whole, "")}),)
_SHRINK = (
    (trainer, "combine_advantages", _shrinking),
    (director.Director, "_weights", _working_weights),
)
_LOUD = ((weighting, "working_preference", _loud), (director, "working_preference", _loud))

MAIN: dict[str, Arm] = {
    "group_dpo": Arm("group_dpo", "fixed", 0.0),
    "grpo": Arm("grpo", "fixed", 0.0),
    "gdpo_decoupled": Arm("gdpo_decoupled", "fixed", 0.0),
    "gdpo": Arm(),
}
ABLATIONS: dict[str, Arm] = {
    "gdpo, by deficit": Arm(weighting="by_deficit"),
    "gdpo, by deficit, no dispersion floor": Arm(weighting="by_deficit", floor=0.0),
    "gdpo, fixed weights": Arm(weighting="fixed", floor=0.0),
    "gdpo, no dispersion floor": Arm(floor=0.0),
    "gdpo, raw Gramian": Arm(patches=((director.geometry, "debiased", _raw),)),
    "gdpo, group z-score": Arm(patches=((director, "reward_advantages", _group_scores),)),
    "gdpo, step projected as a whole": Arm(patches=_WHOLE),
    "gdpo, shrinking steps": Arm(patches=_SHRINK, floor=0.0),
    "gdpo, step as a whole, smoothed": Arm(patches=(*_WHOLE, (trainer, "Director", _Smoothed))),
    "gdpo, progress by prompt": Arm(weighting="fixed", floor=0.0, patches=_PROMPTS),
    "gdpo, maintenance by preference": Arm(patches=_LOUD),
    "gdpo, gated brevity": Arm(gate=True),
    "gdpo, upgrad": Arm(weighting="upgrad"),
    "gdpo, dualproj": Arm(weighting="dualproj"),
    "gdpo, dualproj_margin": Arm(weighting="dualproj_margin"),
    "gdpo, mgda": Arm(weighting="mgda"),
    "gdpo, pcgrad": Arm(weighting="pcgrad"),
    "gd2po": Arm("gd2po", "fixed", 0.0),
    "corr_grpo": Arm("corr_grpo", "fixed", 0.0),
    "saturation_aware": Arm("saturation_aware", "fixed", 0.0),
}
# Whether ten rewards are slow or out of reach.
PATIENT: dict[str, Arm] = {
    f"{name}, 900 steps": replace({**MAIN, **ABLATIONS}[name], settings=(("steps", 900),))
    for name in ("group_dpo", "gdpo_decoupled", "saturation_aware", "gdpo")
}
ARMS = {**MAIN, **ABLATIONS, **PATIENT}
# On every task: other forms of `gdpo`, progress without the gradients' directions, and the best of the others.
EVERYWHERE = (
    *MAIN,
    "gdpo, by deficit, no dispersion floor",
    "gdpo, step projected as a whole",
    "gdpo, step as a whole, smoothed",
    "gdpo, progress by prompt",
    "saturation_aware",
)
ABLATED = "support5"
