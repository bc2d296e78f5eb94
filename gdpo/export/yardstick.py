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
from .formats import wide_type
from .material import Material, reference_logits
from .merge import full_precision, save_merged
from .tensors import check_rounding
from .verify import compare_file

logger = logging.getLogger(__name__)


def base_losses(
    job: Job, kinds: Sequence[str], material: Material
) -> dict[str, tuple[float, float]]:
    """Return what each type costs the base on the trained policy's answers: the KL and the rounding error.

    The KL is the mean of KL(base || base in the type) in nats per token, the error that of `check_rounding`.

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
    exact = files[wide_type(tuple(files))]
    for kind in kinds:
        path = files.get(kind) or quantize(alone, exact, kind)
        found = compare_file(path, policy, material, reference, folder, job.progress)
        losses[kind] = found.kl, check_rounding(exact, path, job.progress.poll).error
        path.unlink()
    shutil.rmtree(folder)
    return losses
