"""From a trained policy to verified GGUF files, or to an error with nothing left behind."""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import ExportError
from ..policy import Policy, attached
from ..progress import Progress
from ..prompts import Prompt
from ..rewards.base import Reward
from .checks import Plan, plan_export
from .converter import runtime_remedy, runtime_version
from .formats import FORMATS, limit, wide_type
from .material import Material, gather, reference_logits
from .merge import full_precision, save_merged
from .verify import (
    Comparison,
    compare_file,
    compare_rewards,
    judge,
    tensor_types,
)
from .worker import CONVERT_WORKER, LLAMA_WORKER, run_worker

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GGUF:
    """An exported file, its type and what verifying found; the report is also in `<path>.json`.

    The report: "kl" (nats per token) and "top1" against the trained model, "holds" (None: not verified),
    "why" in words, "tensor_types" as counted in the file, "bytes", "rewards" {name: {"policy", "gguf"}}.
    """

    path: Path
    type: str
    report: dict


@dataclass(frozen=True)
class _Job:
    """What all steps of one export share."""

    policy: Policy
    plan: Plan
    name: str
    work: Path
    rewards: tuple[Reward, ...]
    progress: Progress


def export_gguf(
    policy: Policy,
    folder: Path,
    name: str,
    *,
    types: Sequence[str] = ("F16", "Q8_0"),
    prompts: Sequence[Prompt] = (),
    rewards: Sequence[Reward] = (),
    progress: Progress = Progress(),  # noqa: B008  has no state
) -> tuple[GGUF, ...]:
    """Merge, convert, quantise and verify.

    Each file appears under its final name only when it is complete, with its report beside it.

    Args:
        policy: A trained policy, or a base alone.
        folder: Where the files go, `<name>-<type>.gguf`; made if need be.
        name: Plain file name.
        types: Some of `EXPORT_TYPES`.
        prompts: A few of them are answered to compare file and policy; general texts without any.
        rewards: Scored on both sides' answers to `prompts`.
        progress: Told the phases; may raise to cancel, which leaves nothing behind.

    Raises:
        ExportError: The policy cannot be exported as asked, or a step failed.
    """
    types = tuple(dict.fromkeys(types))
    plan = plan_export(policy, folder, name, types)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(
            dir=folder, prefix=".export-", ignore_cleanup_errors=True
        )
    except OSError as error:
        raise ExportError(
            f"{str(folder)!r} cannot be written ({error.strerror}); choose another."
        ) from error
    with scratch as work:
        job = _Job(policy, plan, name, Path(work), tuple(rewards) if prompts else (), progress)
        material = gather(policy, prompts, progress.poll) if runtime_version() else None
        reference = _merge(job, material)
        files = _convert(job)
        return _finish(job, files, material, reference)


def _merge(job: _Job, material: Material | None) -> list[Tensor]:
    """Write the merged model to `merged`; return the logits of the model before it was merged."""
    job.progress.phase("Merge the adapter", 0, 3)
    full = full_precision(job.policy, job.plan.source, job.plan.precision)
    with attached(full) as model:
        job.progress.phase("Merge the adapter", 1, 3)
        reference = reference_logits(model, material, job.progress.poll) if material else []
        job.progress.phase("Merge the adapter", 2, 3)
        job.progress.poll()
        save_merged(model, job.plan.source, job.work / "merged")
    del full, model
    gc.collect()
    job.progress.phase("Merge the adapter", 3, 3)
    return reference


def _convert(job: _Job) -> dict[str, Path]:
    """Write the types that the converter writes by itself into the work folder."""
    files = {kind: job.work / f"{job.name}-{kind}.gguf" for kind in job.plan.direct}
    expected = sum(_expected_bytes(job, kind) for kind in files)
    request = {
        "task": "Converting to GGUF",
        "converter": str(job.plan.converter.absolute()),
        "model": str(job.work.absolute() / "merged"),
        "name": job.name,
        "outputs": [[kind, str(path.absolute())] for kind, path in files.items()],
    }
    run_worker(
        CONVERT_WORKER, request, poll=_watch(job, "Convert to GGUF", files.values(), expected)
    )
    for file in (job.work / "merged").glob("*.safetensors"):  # as large as the rest together
        file.unlink()
    return files


def _quantize(job: _Job, source: Path, kind: str) -> Path:
    target = job.work / f"{job.name}-{kind}.gguf"
    request = {
        "task": f"Quantising to {kind}",
        "command": "quantize",
        "source": str(source.absolute()),
        "target": str(target.absolute()),
        "ftype": FORMATS[kind].ftype,
    }
    poll = _watch(job, f"Quantise to {kind}", [target], _expected_bytes(job, kind))
    run_worker(LLAMA_WORKER, request, poll=poll)
    return target


def _finish(
    job: _Job, files: dict[str, Path], material: Material | None, reference: list[Tensor]
) -> tuple[GGUF, ...]:
    """Quantise, verify and move into place, one type after the other."""
    plan, wide, verified = job.plan, wide_type(tuple(files)), {}
    if material and any(kind not in files for kind in plan.targets):
        verified[wide] = _compare(job, files[wide], material, reference)
    results = []
    for kind in plan.targets:
        path = files.get(kind) or _quantize(job, files[wide], kind)
        comparison = None
        if material:
            comparison = verified.get(kind) or _compare(job, path, material, reference)
        report = _report(job, path, kind, comparison)
        if kind not in files and wide in verified:
            _blame_conversion(report, wide, limit(wide, plan.precision), verified[wide])
        if material and job.rewards:
            report["rewards"] = compare_rewards(path, material, job.rewards, job.progress)
        results.append((kind, path, report))
    return tuple(_publish(job, kind, path, report) for kind, path, report in results)


def _compare(job: _Job, path: Path, material: Material, reference: list[Tensor]) -> Comparison:
    return compare_file(path, job.policy, material, reference, job.work, job.progress)


def _report(job: _Job, path: Path, kind: str, comparison: Comparison | None) -> dict:
    types = tensor_types(path)
    report = {
        "type": kind,
        "kl": None,
        "top1": None,
        "positions": 0,
        "holds": None,
        "why": f"not verified, because llama-cpp-python is not installed: {runtime_remedy()}",
        "tensor_types": types,
        "bytes": path.stat().st_size,
        "rewards": {},
    }
    if comparison:
        report["holds"], report["why"] = judge(kind, job.plan.precision, comparison, types)
        report["kl"] = comparison.kl if math.isfinite(comparison.kl) else None
        report["top1"], report["positions"] = comparison.top1, comparison.positions
    return report


def _blame_conversion(report: dict, wide: str, allowed: float, comparison: Comparison) -> None:
    """A quantised file's limit is too wide to notice a wrong conversion; its source's is not."""
    if not comparison.kl <= allowed:
        found = f"its source {wide} has a KL of {comparison.kl:.2g}, over {allowed:g}"
        report["holds"], report["why"] = False, f"{found}; {report['why']}"


def _publish(job: _Job, kind: str, path: Path, report: dict) -> GGUF:
    """Move the file and its report to their final names."""
    target = job.plan.targets[kind]
    if report["holds"] is False:
        logger.warning("%s does not hold what was trained: %s", target.name, report["why"])
    beside = target.with_name(f"{target.name}.json")
    written = job.work / beside.name
    written.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(written, beside)
    os.replace(path, target)
    return GGUF(target, kind, report)


def _expected_bytes(job: _Job, kind: str) -> int:
    return int(job.plan.parameters * FORMATS[kind].bits / 8)


def _watch(job: _Job, phase: str, paths: Collection[Path], expected: int) -> Callable[[], None]:
    """A poll that shows how far the files under `paths` have grown."""

    def poll() -> None:
        job.progress.poll()
        written = sum(path.stat().st_size for path in paths if path.exists())
        job.progress.phase(phase, min(written, expected), expected)

    return poll
