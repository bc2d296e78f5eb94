"""From a trained policy to verified GGUF files, or to an error with nothing left behind."""

from __future__ import annotations

import gc
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..atomic import write_atomically
from ..errors import ExportError, shorten
from ..llamacpp.runtime import runtime_version
from ..policies.policy import Policy, attached
from ..progress import Progress
from ..prompts import Prompt, as_prompts
from ..rewards.reward import Reward
from ..scratch import EXPORT_PREFIX, scratch_folder
from ..unpacking.folder import is_gguf
from .answers import compare_rewards
from .by_rewards import judged_by_rewards
from .checks import plan_export
from .conversion import Job, convert, quantize
from .formats import wide_type
from .in_memory import check_reloaded, probe_model, probe_policy
from .material import Material, gather, reference_logits
from .merge import full_precision, save_merged
from .report import Report, make_report
from .verification import verify_files

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GGUF:
    """An exported file, its type and what verifying found; the report is also in `<path>.json`."""

    path: Path
    type: str
    report: Report


def export_gguf(
    policy: Policy,
    folder: str | Path,
    name: str | None = None,
    *,
    types: Sequence[str] = ("F16", "Q8_0"),
    prompts: Sequence[Prompt | str] = (),
    rewards: Sequence[Reward] = (),
    progress: Progress = Progress(),  # noqa: B008  has no state
) -> tuple[GGUF, ...]:
    """Merge, convert, quantise and verify.

    Each file appears under its final name only when it is complete, with its report beside it.

    Args:
        policy: A trained policy, or a base alone.
        folder: Where the files go, `<name>-<type>.gguf`; made if need be.
        name: Plain file name; by default that of the run, or of the base.
        types: Some of `EXPORT_TYPES`.
        prompts: A few of them are answered to compare file and policy; general texts without any.
        rewards: Scored on both sides' answers to `prompts`.
        progress: Told the phases; may raise to cancel, which leaves nothing behind.

    Raises:
        ExportError: The policy cannot be exported as asked, or a step failed.
    """
    types, prompts = tuple(dict.fromkeys(types)), as_prompts(prompts)
    folder = Path(folder).absolute()  # the workers start in another folder
    name = _name(policy) if name is None else name
    plan = plan_export(policy, folder, name, types)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(EXPORT_PREFIX, folder) as work:
            job = Job(policy, plan, name, work, tuple(rewards) if prompts else (), progress)
            material = gather(policy, prompts, progress) if runtime_version() else None
            reference = _merge(job, material, probe_policy(policy, progress))
            files = convert(job)
            return _finish(job, files, material, reference)


def _name(policy: Policy) -> str:
    source = Path(policy.base.source)
    return policy.run.name if policy.run else source.stem if is_gguf(source) else source.name


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what a disk raises inside the block into one line with the remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise ExportError(
            f"{str(folder)!r} cannot be written ({shorten(reason, 120)}); free space, restore the folder and its "
            "permissions, or choose another."
        ) from error


def _merge(job: Job, material: Material | None, trained: list[Tensor]) -> list[Tensor]:
    """Write the merged model to `merged`; return the logits of the model before it was merged.

    Those of the model in memory, `trained`, come from before anything is loaded again.
    """
    job.progress.phase("Merge the adapter", 0, 3)
    full = full_precision(job.policy, job.plan.source, job.plan.precision)
    with attached(full) as model:
        job.progress.phase("Merge the adapter", 1, 3)
        again = probe_model(model, job.policy, job.progress)
        check_reloaded(trained, again, job.policy, job.plan.precision)
        reference = reference_logits(model, material, job.progress) if material else []
        job.progress.phase("Merge the adapter", 2, 3)
        job.progress.poll()
        save_merged(model, job.plan.source, job.work / "merged")
    del full, model
    gc.collect()
    job.progress.phase("Merge the adapter", 3, 3)
    return reference


def _finish(
    job: Job, files: dict[str, Path], material: Material | None, reference: list[Tensor]
) -> tuple[GGUF, ...]:
    """Quantise, verify and move into place, one type after the other."""
    wide = wide_type(tuple(files))
    paths = {kind: files.get(kind) or quantize(job, files[wide], kind) for kind in job.plan.targets}
    if material is None:
        checks, longest = {}, None
    else:
        exact = wide, files.get(wide, next(iter(paths.values())))
        checks = verify_files(job, paths, exact, material, reference)
        longest = material.new_tokens
    results = []
    for kind, path in paths.items():
        report = make_report(path, kind, job.plan.precision, checks.get(kind), longest)
        if material and job.rewards:
            measured = compare_rewards(path, material, job.rewards, job.progress)
            report = replace(report, rewards=measured)
            report = judged_by_rewards(
                report, job.plan.precision, checks[kind], job.rewards, len(material.prompts)
            )
        results.append((kind, path, report))
    return tuple(_publish(job, kind, path, report) for kind, path, report in results)


def _publish(job: Job, kind: str, path: Path, report: Report) -> GGUF:
    """Move the file and its report to their final names."""
    target = job.plan.targets[kind]
    if report.holds is False:
        logger.warning("%s does not hold what was trained: %s", target.name, report.why)
    beside = target.with_name(f"{target.name}.json")
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False)
    write_atomically(beside, text + "\n")
    os.replace(path, target)
    return GGUF(target, kind, report)
