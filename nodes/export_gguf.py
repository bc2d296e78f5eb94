"""Export GGUF: the trained model as files that llama.cpp runs, compared with the model itself."""

from __future__ import annotations

from ..gdpo.export.formats import EXPORT_TYPES
from ..gdpo.export.pipeline import GGUF, export_gguf
from ..gdpo.objective.objective import Objective
from ..gdpo.policies.policy import Policy
from ..gdpo.prompts import Prompt
from ..gdpo.to_json import to_json
from .checks.exports import NONE, export_stem, export_types
from .checks.guard import guarded
from .checks.inputs import choice, socket, text
from .checks.paths import check_tree, name_verdict, resolve_output, safe_name
from .comfy import memory, progress

_UNTRAINED = "untrained"  # folder below gdpo/ for models that come from no run


class GDPOExportGGUF:
    """Gives GGUF files with the report of their check."""

    DESCRIPTION = (
        "Merges the adapter into the full-precision model, writes a GGUF through llama.cpp's converter, "
        "quantises it, loads the result and compares its next-token distributions with the trained model's. "
        "The report stands beside the file and says plainly when the file does not hold."
    )
    CATEGORY = "GDPO/export"
    SEARCH_ALIASES = ("llama.cpp", "quantize", "save LLM", "convert", "GDPO")
    RETURN_TYPES = ("GDPO_GGUF", "STRING")
    RETURN_NAMES = ("gguf", "report")
    OUTPUT_TOOLTIPS = (
        "The file of the chosen type. Link it to Chat and Compare.",
        "What the check found, as text.",
    )
    FUNCTION = "export"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Return the node's inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "model": socket("GDPO_MODEL", "The model to export (tuned, from GDPO Train)."),
                "type": choice(
                    EXPORT_TYPES,
                    "Number format of the file. F16 is exact and takes 2 bytes a weight, Q8_0 about 1 byte with hardly "
                    "a loss, Q4_K_M about 0.6 bytes with a small loss. All but F32, F16, BF16 and Q8_0 need "
                    "llama-cpp-python.",
                    "Q8_0",
                ),
            },
            "optional": {
                "also": choice(
                    [NONE, *EXPORT_TYPES], "Type of a second file; none: only one file."
                ),
                "name": text(
                    "",
                    "The files are called <name>-<type>.gguf, in the run's folder gguf; a number is added to a name that "
                    "is taken. Empty: the run's name.",
                    hint="empty: the run's name",
                ),
                "prompts": socket(
                    "GDPO_PROMPTS",
                    "Prompts for the check (held-out ones). Without them it uses a few of its own.",
                ),
                "rewards": socket(
                    "GDPO_REWARDS",
                    "Rewards to measure on the file as well; needs prompts. Shows what quantising costs in what "
                    "you trained for.",
                ),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, name: object = None) -> bool | str:
        """Refuses a bad file name before anything has run."""
        is_run_name = isinstance(name, str) and not name.strip()
        return is_run_name or name_verdict(name, "name")

    @guarded
    def export(
        self,
        model: Policy,
        type: str,
        also: str,
        name: str,
        prompts: tuple[Prompt, ...] = (),
        rewards: Objective | None = None,
        unique_id: str | None = None,
    ) -> dict:
        """Export and verify; see `gdpo.export_gguf`."""
        folder = (model.run or resolve_output(_UNTRAINED)) / "gguf"
        check_tree(folder, "name")
        types = export_types(type, also)
        wanted = safe_name(name, "name") if name.strip() else folder.parent.name
        stem = export_stem(folder, wanted, types)
        memory.make_room(model.base)
        with memory.releasing(), progress.bar(unique_id, f"exporting {stem}") as bar:
            files = export_gguf(
                model,
                folder,
                stem,
                types=types,
                prompts=prompts,
                rewards=rewards.rewards if rewards else (),
                progress=bar,
            )
        report = "\n".join(_describe(file) for file in files)
        found = [to_json({"path": file.path, **file.report.to_json()}) for file in files]
        chosen = next(file for file in files if file.type == type)
        return {"ui": {"text": [report], "gguf": found}, "result": (chosen, report)}


def _describe(file: GGUF) -> str:
    """Return one file's check: a line, and more with each reward that was measured."""
    report = file.report
    verdict = {True: "holds", False: "DOES NOT HOLD", None: "not verified"}[report.holds]
    figures = [] if report.kl is None else [f"KL {report.kl:.2g}"]
    figures += [] if report.top1 is None else [f"top-1 {report.top1:.0%}"]
    figures += [f"{report.bits_per_weight:.1f} bits per weight"] if report.bits_per_weight else []
    lines = [f"{file.path.name}: {', '.join([verdict, *figures])} ({report.why})"]
    if report.rewards:
        lines.append(
            f"  rewards of answers of at most {report.max_new_tokens} tokens, model -> file:"
        )
    for name, value in report.rewards.items():
        pair = ("-" if value[key] is None else f"{value[key]:.3f}" for key in ("policy", "gguf"))
        lines.append(f"  {name}: {' -> '.join(pair)}")
    return "\n".join(lines)
