"""Load Prompts: what the model is asked, from the pack or from ComfyUI's input folder."""

from __future__ import annotations

from pathlib import Path

from ..gdpo.errors import WorkflowError, shorten
from ..gdpo.prompts import Prompt, load_prompts
from ..gdpo.starter import HELDOUT_PROMPTS, TRAIN_PROMPTS
from .checks.guard import guarded
from .checks.inputs import choice, text, whole
from .checks.paths import list_prompt_files
from .comfy import progress

# The names are part of saved workflows: never rename one. The starter model was made for the first two.
BUNDLED = {
    "support desk: train": TRAIN_PROMPTS,
    "support desk: held-out": HELDOUT_PROMPTS,
    "reasoning: train": TRAIN_PROMPTS.with_name("reasoning_train.jsonl"),
    "reasoning: held-out": TRAIN_PROMPTS.with_name("reasoning_heldout.jsonl"),
    "teaching: train": TRAIN_PROMPTS.with_name("teaching_train.jsonl"),
    "teaching: held-out": TRAIN_PROMPTS.with_name("teaching_heldout.jsonl"),
    "medical: train": TRAIN_PROMPTS.with_name("medical_train.jsonl"),
    "medical: held-out": TRAIN_PROMPTS.with_name("medical_heldout.jsonl"),
}


class GDPOLoadPrompts:
    """Gives the prompts of one file."""

    DESCRIPTION = (
        "Reads prompts from a JSON, CSV, text or Parquet file in ComfyUI's input folder, or the bundled ones. "
        "All other columns of a row (a reference answer, for instance) are kept for the rewards."
    )
    CATEGORY = "GDPO/load"
    SEARCH_ALIASES = ("dataset", "JSONL", "CSV", "questions")
    RETURN_TYPES = ("GDPO_PROMPTS",)
    RETURN_NAMES = ("prompts",)
    OUTPUT_TOOLTIPS = ("The prompts. Train on one file, measure on another: link that to heldout.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Return the node's inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "file": choice(
                    [*BUNDLED, *list_prompt_files()],
                    "A bundled set, or a file below ComfyUI's input folder: JSON lines, a JSON list, CSV (first row: "
                    "column names), Parquet, or text (one prompt a line). The content tells which, whatever the ending.",
                ),
            },
            "optional": {
                "prompt_column": text(
                    "prompt",
                    "Name of the column with the prompt: a text, or a list of chat messages. Where it is absent, a "
                    "column with a usual name is taken and a notice says so. Plain text has none.",
                ),
                "system": text(
                    "",
                    "System message put before every prompt that has none; empty for none. Some models' chat "
                    "templates know no system message.",
                    multiline=True,
                    hint="system message (optional)",
                ),
                "limit": whole(
                    0,
                    "Use only the first so many prompts; 0 uses all of them.",
                    high=500_000,
                ),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    @guarded
    def load(
        self,
        file: str,
        prompt_column: str,
        system: str,
        limit: int,
        unique_id: str | None = None,
    ) -> tuple[tuple[Prompt, ...]]:
        """Read the file; see `gdpo.prompts.load_prompts`."""
        path = _path(file)
        if path is None:
            raise WorkflowError(f"there is no prompt file {shorten(file)} any more; choose another")
        with progress.bar(unique_id, f"reading {path.name}") as bar:
            return (
                load_prompts(
                    path, prompt_column=prompt_column, system=system, limit=limit, progress=bar
                ),
            )

    @classmethod
    def IS_CHANGED(cls, file: object = None, **_others: object) -> float:
        """Give the file's last change, so that an edited file is read again on the next run."""
        path = _path(file)
        try:
            return path.stat().st_mtime if path else 0.0
        except OSError:  # the node itself says it
            return 0.0


def _path(file: object) -> Path | None:
    """Return the file that the menu calls so."""
    return {**list_prompt_files(), **BUNDLED}.get(file) if isinstance(file, str) else None
