"""Compare: base, tuned and exported model answer the same prompts, side by side."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from ..gdpo.evaluation.comparison import compare
from ..gdpo.export.pipeline import GGUF
from ..gdpo.objective.objective import Objective
from ..gdpo.policies.policy import Policy
from ..gdpo.prompts import Prompt
from ..gdpo.to_json import to_json
from .checks.guard import guarded
from .checks.inputs import real, socket, whole
from .comfy import memory, progress

SHOWN_ANSWERS = 3


class GDPOCompare:
    """Gives a table of every reward for every model."""

    DESCRIPTION = (
        "Lets the base model, the tuned one and, if linked, the exported file answer the same prompts, scores all "
        "answers with every reward, and shows the means with some of the answers."
    )
    CATEGORY = "GDPO/use"
    SEARCH_ALIASES = ("before and after", "evaluate", "benchmark", "side by side")
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("table",)
    OUTPUT_TOOLTIPS = ("The means, as a plain-text table.",)
    FUNCTION = "compare"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Return the node's inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "base": socket("GDPO_MODEL", "The model before (from Load Model)."),
                "tuned": socket("GDPO_MODEL", "The model after (from GDPO Train)."),
                "prompts": socket("GDPO_PROMPTS", "What to ask; best held-out prompts."),
                "rewards": socket(
                    "GDPO_REWARDS", "What the answers are measured by (from Combine Rewards)."
                ),
            },
            "optional": {
                "gguf": socket(
                    "GDPO_GGUF", "The exported file as a third column (from Export GGUF)."
                ),
                "count": whole(32, "Use the first so many prompts.", low=1, high=10_000),
                "max_new_tokens": whole(
                    128, "Longest answer, in tokens; a longer one is cut.", low=1, high=32768
                ),
                "temperature": real(
                    1.0,
                    "Of the sampling, the same for all. 1 is what training samples with.",
                    low=0,
                    high=5,
                ),
                "rng_seed": whole(0, "Same seed, same answers."),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    @guarded
    def compare(
        self,
        base: Policy,
        tuned: Policy,
        prompts: tuple[Prompt, ...],
        rewards: Objective,
        count: int,
        max_new_tokens: int,
        temperature: float,
        rng_seed: int,
        gguf: GGUF | None = None,
        unique_id: str | None = None,
    ) -> dict:
        """Compare the models; see `gdpo.evaluation.comparison.compare`."""
        columns: dict[str, Policy | Path] = {"base": base, "tuned": tuned}
        if gguf is not None:
            columns["gguf"] = gguf.path
        memory.make_room(base.base, tuned.base)
        with memory.releasing(), progress.bar(unique_id, "comparing") as bar:
            found = compare(
                columns,
                prompts[:count],
                rewards.rewards,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=rng_seed,
                progress=bar,
            )
        table = found.table()
        answers = [to_json(answer) for answer in islice(found.answers, SHOWN_ANSWERS)]
        return {"ui": {"text": [table], "answers": answers}, "result": (table,)}
