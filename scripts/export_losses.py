"""Prints what each GGUF type costs a trained model, and its base alone on the same texts.

    python -m scripts.export_losses RUN --prompts heldout.jsonl --types F16 Q8_0 Q5_0 Q4_K_M

RUN is a run folder, or a model's folder, of which the base alone is measured. Each type is exported and verified as Export
GGUF does it; the base is quantised for every type of blocks, not only where a file is over its limit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gdpo import load_policy, load_prompts, open_run
from gdpo.export.checks import plan_export
from gdpo.export.conversion import Job
from gdpo.export.formats import EXPORT_TYPES, PLAIN_TYPES
from gdpo.export.material import gather
from gdpo.export.pipeline import export_gguf
from gdpo.export.yardstick import base_losses
from gdpo.policies.policy import Policy
from gdpo.progress import Progress
from gdpo.starter import HELDOUT_PROMPTS


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what GGUF types cost a trained model.")
    parser.add_argument("model", type=Path, help="a run folder, or a model's folder")
    parser.add_argument("--prompts", type=Path, default=HELDOUT_PROMPTS)
    types = ("F16", "Q8_0", "Q5_0", "Q4_K_M")
    parser.add_argument("--types", nargs="+", choices=EXPORT_TYPES, default=types)
    asked = parser.parse_args(arguments)
    is_run = (asked.model / "run.json").is_file()
    policy = open_run(asked.model).policy if is_run else load_policy(asked.model, device="cpu")
    measure(policy, asked.prompts, asked.types)
    return 0


def measure(policy: Policy, prompts: Path, types: Sequence[str]) -> None:
    """Print a line for each type.

    Args:
        policy: The model.
        prompts: File of the prompts that are answered.
        types: Some of `EXPORT_TYPES`.
    """
    asked, progress = load_prompts(prompts), Progress()
    with tempfile.TemporaryDirectory(prefix="gdpo-") as folder:
        files = export_gguf(policy, Path(folder) / "files", "m", types=types, prompts=asked)
        blocks = [kind for kind in types if kind not in PLAIN_TYPES]
        losses = {}
        if policy.adapter and blocks:
            work = Path(folder) / "work"
            work.mkdir()
            plan = plan_export(policy, work, "m", types)
            job = Job(policy, plan, "m", work, (), progress)
            losses = base_losses(job, blocks, gather(policy, asked, progress))
    for file in files:
        report, base = file.report, losses.get(file.type, (None, None))[0]
        figures = f"KL {report.kl:.2g}  top-1 {report.top1:.1%}  {report.bits_per_weight:.2f} bits"
        beside = "" if base is None else f"  base {base:.2g}"
        sys.stdout.write(f"{file.type:7} {figures}{beside}  ({report.why})\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
