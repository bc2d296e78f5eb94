"""What quantising costs the base alone, on the same texts: the yardstick for a trained file that is over its limit.

A model may be near a decision at some position, where any rounding tips it over, so what a type costs depends on the
model and on the texts. That is no fault of a file whose base, converted and quantised by the same programs, loses as much.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace

from ..policies.policy import Policy, attached
from .conversion import Job, convert, quantize
from .formats import DIRECT_TYPES, wide_type
from .material import Material, reference_logits
from .merge import full_precision, save_merged
from .verify import compare_file

logger = logging.getLogger(__name__)


def base_losses(job: Job, kinds: Sequence[str], material: Material) -> dict[str, float]:
    """Return the mean KL(base || base in the type) in nats per token of each type, on the trained policy's answers.

    Args:
        job: The export.
        kinds: Types of blocks, which are quantised.
        material: The texts.

    Raises:
        ExportError: A step failed.
    """
    policy = Policy(job.policy.base)
    folder = job.work / "base"
    plan = replace(job.plan, targets={kind: folder / kind for kind in kinds})
    needed = sum(plan.bytes(kind) for kind in {"F32", *plan.direct, *kinds})
    if shutil.disk_usage(job.work).free < needed:
        logger.warning(
            "What quantising costs the base is not measured: that takes %.1f GB of disk for a while.",
            needed / 1e9,
        )
        return {}
    folder.mkdir()
    alone = replace(job, policy=policy, plan=plan, work=folder)
    job.progress.phase("Quantise the base, to compare", 0, len(kinds))
    with attached(full_precision(policy, plan.source, plan.precision)) as model:
        reference = reference_logits(model, material, job.progress)
        save_merged(model, plan.source, folder / "merged")
    files, losses = convert(alone), {}
    for kind in kinds:
        path = (
            files[kind]
            if kind in DIRECT_TYPES
            else quantize(alone, files[wide_type(tuple(files))], kind)
        )
        found = compare_file(path, policy, material, reference, folder, job.progress)
        losses[kind] = found.kl
        path.unlink()
    shutil.rmtree(folder)
    return losses
