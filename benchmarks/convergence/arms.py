"""The arms: methods under their own names, and `gdpo` with one part exchanged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gdpo.objective import advantages, weighting
from gdpo.objective.director import Director, smooth
from gdpo.objective.gramian import positive_semidefinite
from gdpo.objective.methods import METHODS, Method, Scores, weighted_sum
from gdpo.objective.objective import Objective
from gdpo.objective.projection import project
from gdpo.objective.weighting import Weighting
from gdpo.training.trainer import Parts

from .arm import Arm
from .natural_arms import EXCHANGED, GATED, LEADING, NATURAL, ONE_DRAW


def _group_scores(scores: Scores) -> Tensor:
    return advantages.decoupled(scores.rewards)


def _raw(raw: Tensor, advantage: Tensor, squared_norms: Tensor) -> Tensor:
    return raw


def _shrinking(scores: Scores, weights: Tensor, parts: Tensor, ratios: Tensor) -> Tensor:
    """Make steps shorter near the targets: they are not divided by the batch's deviation."""
    combined = weighted_sum(scores, weights, parts, ratios)
    return combined / scores.preferences.square().sum().sqrt()


class _Unscaled(Director):
    """The weights are not scaled to sum 1."""

    def _weights(self, active: Tensor) -> Tensor:
        preferences, deficit = self.objective.preferences[active], self._deficits()[active]
        if self._gramian is None:
            return preferences
        matrix = positive_semidefinite(self._gramian[active][:, active])
        return self.objective.weighting.rule(matrix, preferences, deficit)


class _Smoothed(Director):
    """The weights follow averages: of progress over some ten steps, and of themselves over five."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective)
        self._average: Tensor | None = None

    def observe(self, rewards: Tensor, prompts: int | None = None) -> Tensor:
        """Let rewards count by their average from here on."""
        before = self._means
        parts = super().observe(rewards, prompts)
        self._means = smooth(before, self._means, 0.9)
        return parts

    def _weights(self, active: Tensor) -> Tensor:
        self._average = smooth(self._average, super()._weights(active), 0.8)
        return self._average


def _as_a_whole(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
    """Project the whole step off the rewards that lag behind the mean; its parts may push them back."""
    preference = weighting.working_preference(preferences, deficit)
    behind = (deficit > deficit.mean() + 0.05) & (gramian.diagonal() > 0)
    faces = behind.nonzero().flatten().tolist()
    weights = project(gramian, preference, faces, torch.zeros_like(deficit))
    return weights.clamp(max=4 * float(preference.max()))


def _loud(preferences: Tensor, deficit: Tensor) -> Tensor:
    """Maintenance in proportion to the preference."""
    return preferences * (deficit + 0.2)


def _directed_loudly(gramian: Tensor, preferences: Tensor, deficit: Tensor) -> Tensor:
    return weighting.sum_of_yielding(gramian, _loud(preferences, deficit), deficit)


class _PromptByPrompt(Director):
    """Advantages times how much each reward is still needed on that very prompt, from this step's scores alone.

    Nothing is smoothed, so nothing lags behind: to first order the steps climb a fixed function, minus the
    squared ways that are left, instead of following weights that chase the rewards.
    """

    def observe(self, rewards: Tensor, prompts: int | None = None) -> Tensor:
        """Return each reward's advantages `(K, B, G)`, scaled prompt by prompt."""
        parts, objective = super().observe(rewards, prompts), self.objective
        deficit = weighting.deficits(
            rewards.nanmean(-1),  # (K, B)
            self._starts[:, None],
            objective.targets[:, None],
            objective.ranges[:, None],
        ).nan_to_num(1.0)
        least = 0.2 * objective.preferences.mean() / objective.preferences
        return parts * (deficit + least[:, None])[..., None]


def _gdpo(name: str, **changes: Any) -> Method:
    """Return the method gdpo with some of its parts exchanged."""
    return replace(METHODS["gdpo"], name=name, **changes)


_WHOLE = Weighting("as a whole", "the step is projected as a whole", _as_a_whole)
_LOUD = Weighting("loud", "maintenance by preference", _directed_loudly, working=_loud)


def _patient(arm: Arm) -> Arm:
    return replace(arm, settings=(*arm.settings, ("steps", 900)))


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
    "gdpo, raw Gramian": Arm(_gdpo("gdpo, raw Gramian", gramian=_raw)),
    "gdpo, group z-score": Arm(_gdpo("gdpo, group z-score", advantages=_group_scores)),
    "gdpo, step projected as a whole": Arm(weighting=_WHOLE),
    "gdpo, shrinking steps": Arm(
        _gdpo("gdpo, shrinking steps", combine=_shrinking), floor=0.0, parts=Parts(_Unscaled)
    ),
    "gdpo, step as a whole, smoothed": Arm(weighting=_WHOLE, parts=Parts(_Smoothed)),
    "gdpo, progress by prompt": Arm(weighting="fixed", floor=0.0, parts=Parts(_PromptByPrompt)),
    "gdpo, maintenance by preference": Arm(weighting=_LOUD),
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
    f"{name}, 900 steps": _patient({**MAIN, **NATURAL, **ABLATIONS}[name])
    for name in ("group_dpo", "gdpo_decoupled", "saturation_aware", "gdpo", ONE_DRAW, LEADING)
}
ARMS = {**MAIN, **NATURAL, **ABLATIONS, **EXCHANGED, **GATED, **PATIENT}
# On every task: other forms of `gdpo`, progress without the gradients' directions, and the best of the others.
EVERYWHERE = (
    *MAIN,
    "gdpo, by deficit, no dispersion floor",
    "gdpo, step projected as a whole",
    "gdpo, step as a whole, smoothed",
    "gdpo, progress by prompt",
    "saturation_aware",
    *NATURAL,
)
# Told apart by twice as many seeds.
LEADERS = (LEADING, ONE_DRAW, "gdpo", "saturation_aware")
ABLATED = "support5"
