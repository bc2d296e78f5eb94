"""The arms: methods under their own names, and `gdpo` with one part exchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from gdpo import advantages, director, trainer, weighting
from gdpo.methods import Objective, combine_rewards
from gdpo.rewards.base import Reward
from gdpo.settings import TrainSettings


@dataclass(frozen=True)
class Arm:
    """How the rewards of a run are trained.

    Attributes:
        method, weighting, floor: As in `combine_rewards`.
        patches: What is exchanged in the library while the run lasts: (owner, name, value).
        gate: Whether brevity counts only where the answer is right.
        settings: What differs from the budget's settings; the rollouts of a step stay 64.
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


def _same_length(objective: Objective, weights: Tensor, parts: Tensor, *rest: Any) -> Tensor:
    """Steps as long at the end as at the start: divided by the batch's deviation, as published GDPO does."""
    combined = torch.einsum("k,kbg->bg", weights, parts)
    return combined / advantages.batch_std(combined, rest[0])


_SLOW = (
    (director, "_REWARD_DECAY", 0.9),
    (director, "_WEIGHT_DECAY", 0.8),
)

MAIN: dict[str, Arm] = {
    "group_dpo": Arm("group_dpo", "fixed", 0.0),
    "grpo": Arm("grpo", "fixed", 0.0),
    "gdpo_decoupled": Arm("gdpo_decoupled", "fixed", 0.0),
    "gdpo": Arm(),
}
ABLATIONS: dict[str, Arm] = {
    "gdpo, by deficit": Arm(weighting="by_deficit"),
    "gdpo, fixed weights": Arm(weighting="fixed", floor=0.0),
    "gdpo, no dispersion floor": Arm(floor=0.0),
    "gdpo, raw Gramian": Arm(patches=((director.geometry, "debiased", _raw),)),
    "gdpo, group z-score": Arm(patches=((director, "reward_advantages", _group_scores),)),
    "gdpo, equally long steps": Arm(patches=((trainer, "combine_advantages", _same_length),)),
    "gdpo, slower weights": Arm(patches=_SLOW),
    "gdpo, little maintenance": Arm(patches=((weighting, "_MAINTENANCE", 0.05),)),
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
ARMS = {**MAIN, **ABLATIONS}
