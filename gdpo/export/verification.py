"""The order in which an export's files are verified: the exact one first, and the others beside it.

A rounded file holds if the exact one it was made from is the trained model within a tight limit, if rounding is all that
its weights lost, and if that costs no more than its type may cost, or than it costs the base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from .conversion import Job
from .formats import PLAIN_TYPES, limit
from .material import Material
from .report import is_far
from .tensors import check_rounding
from .verify import FileCheck, compare_file
from .yardstick import base_losses


def verify_files(
    job: Job,
    paths: Mapping[str, Path],
    exact: tuple[str, Path],
    material: Material,
    reference: Sequence[Tensor],
) -> dict[str, FileCheck]:
    """Compare each file with the trained model.

    Args:
        job: The export.
        paths: The files by type.
        exact: Type and path of the file that the rounded ones are held against; one of `paths` or beside them.
        material: What they are compared on.
        reference: The trained model's logits.

    Raises:
        ExportError: A file cannot be loaded, or tokenises a prompt differently.
    """

    def compare(path: Path) -> FileCheck:
        return compare_file(path, job.policy, material, reference, job.work, job.progress)

    wide, source = exact
    rounded = [kind for kind in paths if kind not in PLAIN_TYPES]
    known = {source: compare(source)} if rounded else {}
    checks = {kind: known.get(path) or compare(path) for kind, path in paths.items()}
    errors = {}
    for kind in rounded:
        lost = check_rounding(source, paths[kind], job.progress.poll)
        more = (*_wrong_source(wide, job.plan.precision, known[source]), *lost.problems)
        problems = (*more, *checks[kind].problems)
        checks[kind] = replace(checks[kind], problems=problems)
        errors[kind] = lost.error
    return checks | _beside_the_base(job, checks, errors, material)


def _wrong_source(wide: str, precision: str, check: FileCheck) -> tuple[str, ...]:
    """A rounded file's limit is too wide to notice a wrong conversion; its source's is not."""
    if not is_far(wide, precision, check):
        return ()
    return (f"its source {wide} has a KL of {check.kl:.2g}, over {limit(wide, precision):g}",)


def _beside_the_base(
    job: Job, checks: Mapping[str, FileCheck], errors: Mapping[str, float], material: Material
) -> dict[str, FileCheck]:
    """Return the checks of files that are far from the model for no other reason than their type, beside the base.

    `errors` are the mean square rounding errors of the files that rounding made.
    """
    far = [
        kind
        for kind in errors
        if is_far(kind, job.plan.precision, checks[kind])
        and math.isfinite(checks[kind].kl)
        and not checks[kind].problems
    ]
    if not far:
        return {}
    if job.policy.adapter is None:  # it is the base
        losses = {kind: (checks[kind].kl, errors[kind]) for kind in far}
    else:
        losses = base_losses(job, far, material)
    return {
        kind: replace(checks[kind], base_kl=kl, rounding=errors[kind] / error if error else 1.0)
        for kind, (kl, error) in losses.items()
    }
