"""Combine Rewards: several rewards, the method and its weighting become one objective."""

from __future__ import annotations

from collections.abc import Mapping

from ..gdpo.objective.methods import METHODS, Method
from ..gdpo.objective.objective import MAX_REWARDS, Objective, combine_rewards
from ..gdpo.objective.weighting import WEIGHTINGS, Weighting
from ..gdpo.rewards import Reward
from .checks.guard import guarded
from .checks.inputs import choice, real, socket


class GDPOCombineRewards:
    """Gives the objective of a training."""

    DESCRIPTION = (
        "Puts 1 to 16 rewards together under a method. Preferences, targets and gates come from the "
        "rewards. Unused sockets may stay empty, and gaps between them do not matter."
    )
    CATEGORY = "GDPO/rewards"
    SEARCH_ALIASES = ("GDPO", "GRPO", "DPO", "multi-objective", "merge rewards")
    RETURN_TYPES = ("GDPO_REWARDS",)
    RETURN_NAMES = ("rewards",)
    OUTPUT_TOOLTIPS = (
        "All rewards with the method. Link it to GDPO Train, Export GGUF and Compare.",
    )
    FUNCTION = "combine"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Return the node's inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "reward_1": socket("GDPO_REWARD", "A reward (from Define Reward)."),
                "method": choice(
                    list(METHODS), "How the rewards become one update. " + _listed(METHODS), "gdpo"
                ),
                "weighting": choice(
                    list(WEIGHTINGS),
                    "How the method gdpo weighs the rewards at each step; the other methods do not use it. "
                    + _listed(WEIGHTINGS),
                    "directed",
                ),
                "dispersion_floor": real(
                    0.7,
                    "Smallest allowed dispersion of the weighted gradients, 0 (off) to 1: below it the method gdpo "
                    "moves the weights towards the preferences, so that no single reward takes over.",
                    low=0,
                    high=1,
                ),
            },
            "optional": {
                f"reward_{number}": socket("GDPO_REWARD", "One more reward (from Define Reward).")
                for number in range(2, MAX_REWARDS + 1)
            },
        }

    @guarded
    def combine(
        self, method: str, weighting: str, dispersion_floor: float, **rewards: Reward
    ) -> tuple[Objective]:
        """Combine the rewards in the order of their sockets; see `gdpo.objective.objective.combine_rewards`."""
        numbers = sorted(int(name.removeprefix("reward_")) for name in rewards)
        objective = combine_rewards(
            [rewards[f"reward_{number}"] for number in numbers],
            method=method,
            weighting=weighting,
            dispersion_floor=dispersion_floor,
        )
        return (objective,)


def _listed(values: Mapping[str, Method | Weighting]) -> str:
    """Return the menu's entries with their meanings; those that lost in the benchmark come last, as such."""
    offered, compared = (
        "; ".join(f"{v.name}: {v.summary}" for v in values.values() if v.for_comparison is lost)
        for lost in (False, True)
    )
    return f"{offered}. For comparison only: {compared}."
