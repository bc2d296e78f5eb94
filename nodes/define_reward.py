"""Define Reward: one node for each kind of scorer, made from the scorer's own documented fields."""

from __future__ import annotations

from ..gdpo.rewards import SCORERS, Reward, describe
from .checks.guard import guarded
from .checks.inputs import real, socket, text, widget

PREFIX = "GDPODefineReward"


class _DefineReward:
    """What the nodes of all kinds share; `scorer_class` is the kind."""

    CATEGORY = "GDPO/rewards"
    SEARCH_ALIASES = ("reward function", "score", "RL", "RLHF", "GRPO", "GDPO")
    RETURN_TYPES = ("GDPO_REWARD",)
    RETURN_NAMES = ("reward",)
    OUTPUT_TOOLTIPS = ("The reward. Link it to Combine Rewards, or to the gate of another reward.",)
    FUNCTION = "define"
    scorer_class: type

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Return the node's inputs, as ComfyUI asks for them."""
        scorer = cls.scorer_class
        low, high = scorer.value_range
        return {
            "required": {
                "name": text(
                    scorer.kind.lower(),
                    "What messages, plots and tables call this reward; each reward of a run needs its own name.",
                ),
            },
            "optional": {
                "preference": real(
                    1.0,
                    "How much you care, compared with the other rewards: only the ratio counts. 0 watches the "
                    "reward without training it.",
                    low=0,
                    high=1000,
                ),
                "target": real(
                    high,
                    f"Good enough, in the reward's own unit ({low:g} to {high:g}). The method gdpo pushes a "
                    "reward less as it nears its target.",
                    low=low,
                    high=high,
                ),
                "gate": socket(
                    "GDPO_REWARD",
                    "Another reward that a completion must satisfy first: below gate_threshold this reward "
                    f"counts as its worst value ({low:g}).",
                ),
                "gate_threshold": real(
                    0.5,
                    "The gate is open from this value on, in the unit of the gate's reward. Unused without gate.",
                    low=-1000,
                    high=1000,
                ),
                **{option.name: widget(option) for option in describe(scorer)},
            },
        }

    @guarded
    def define(
        self,
        name: str,
        preference: float,
        target: float,
        gate_threshold: float,
        gate: Reward | None = None,
        **options: object,
    ) -> tuple[Reward]:
        """Make the reward; see `gdpo.rewards.Reward`."""
        scorer = self.scorer_class(**options)
        threshold = {} if gate is None else {"gate": gate, "gate_threshold": gate_threshold}
        return (Reward(name.strip(), scorer, target=target, preference=preference, **threshold),)


def define_reward_node(kind: str, scorer: type) -> type:
    """Return the node class of one kind of reward."""
    members = {
        "__doc__": f"Gives a reward of the kind {kind}.",
        "DESCRIPTION": scorer.summary,
        "scorer_class": scorer,
    }
    return type(f"{PREFIX}{kind}", (_DefineReward,), members)


REWARD_NODES = {
    f"{PREFIX}{kind}": define_reward_node(kind, scorer) for kind, scorer in SCORERS.items()
}
