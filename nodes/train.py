"""GDPO Train: makes an adapter that raises all rewards, and leaves the model it was given alone."""

from __future__ import annotations

from ..gdpo.methods import Objective
from ..gdpo.policy import Policy
from ..gdpo.prompts import Prompt
from ..gdpo.rewards import describe
from ..gdpo.settings import TrainSettings
from ..gdpo.trainer import TrainResult, train
from . import host
from .guard import guarded
from .inputs import socket, text, widget
from .paths import name_verdict, resolve_output


class GDPOTrain:
    """Gives the trained policy and its run."""

    DESCRIPTION = (
        "Trains a LoRA adapter on the prompts so that the rewards rise together. The run is kept in the output "
        "folder under gdpo/<run_name>; an interrupted run goes on where it stopped if it is started again with "
        "the same settings. The model at the input stays as it was."
    )
    CATEGORY = "GDPO/train"
    RETURN_TYPES = ("GDPO_MODEL", "GDPO_RUN")
    RETURN_NAMES = ("tuned", "run")
    OUTPUT_TOOLTIPS = (
        "The trained model. Link it to Export GGUF and Compare.",
        "The training's record. Link it to Plot Convergence.",
    )
    FUNCTION = "train"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """The node's inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "model": socket(
                    "GDPO_MODEL", "The model to train (from Load Model); it is not changed."
                ),
                "prompts": socket("GDPO_PROMPTS", "The prompts to train on (from Load Prompts)."),
                "rewards": socket("GDPO_REWARDS", "What to train for (from Combine Rewards)."),
                "run_name": text(
                    "my-run",
                    "Name of the run's folder below gdpo/ in the output folder. The same name with the same "
                    "settings continues or re-uses that run; other settings need another name.",
                ),
            },
            "optional": {
                "heldout": socket(
                    "GDPO_PROMPTS",
                    "Prompts that are not trained on: every eval_every steps the rewards are measured on them.",
                ),
                **{option.name: widget(option) for option in describe(TrainSettings)},
            },
            "hidden": {"unique_id": "UNIQUE_ID", "workflow": "PROMPT"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, run_name: str | None = None) -> bool | str:
        """Refuses a bad folder name before anything has run."""
        return name_verdict(run_name, "run_name")

    @guarded
    def train(
        self,
        model: Policy,
        prompts: tuple[Prompt, ...],
        rewards: Objective,
        run_name: str,
        heldout: tuple[Prompt, ...] = (),
        unique_id: str | None = None,
        workflow: dict | None = None,
        **settings: object,
    ) -> tuple[Policy, TrainResult]:
        """Train, or continue the run of this name; see `gdpo.trainer.train`."""
        chosen = TrainSettings(**settings)
        folder = resolve_output(run_name, what="run_name")
        host.free_memory()
        with host.progress(unique_id, f"training {folder.name}", chosen.steps) as progress:
            result = train(
                model,
                prompts,
                rewards,
                chosen,
                folder,
                heldout=heldout,
                progress=progress,
                workflow=host.plain_json(workflow),
            )
        return result.policy, result
