"""The files of an export, written by llama.cpp's converter and quantiser in processes of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ..llamacpp.runtime import LLAMA_WORKER
from ..policies.policy import Policy
from ..progress import Progress
from ..rewards.reward import Reward
from ..unpacking.parts import is_gguf, read_parts
from ..workers.process import run_worker
from .checks import ExportPlan
from .converter import CONVERT_WORKER
from .formats import FORMATS


@dataclass(frozen=True)
class Job:
    """What all steps of one export share.

    Attributes:
        policy: The policy that is exported.
        plan: Result of the checks.
        name: File name without type and suffix.
        work: Folder for files that are not complete yet.
        rewards: Rewards that are measured on the files; empty without prompts.
        progress: Receives the phases; may raise to cancel.
    """

    policy: Policy
    plan: ExportPlan
    name: str
    work: Path
    rewards: tuple[Reward, ...]
    progress: Progress


def convert(job: Job) -> dict[str, Path]:
    """Write the types that the converter writes by itself into the work folder."""
    files = {kind: job.work / f"{job.name}-{kind}.gguf" for kind in job.plan.direct}
    expected = sum(map(job.plan.bytes, files))
    request = {
        "task": "Converting to GGUF",
        "converter": str(job.plan.converter),
        "model": str(job.work / "merged"),
        "name": job.name,
        "outputs": [[kind, str(path)] for kind, path in files.items()],
        "vocabulary": write_vocabulary(job.policy, job.work),
    }
    run_worker(
        CONVERT_WORKER, request, poll=_watch(job, "Convert to GGUF", files.values(), expected)
    )
    for file in (job.work / "merged").glob("*.safetensors"):  # as large as the rest together
        file.unlink()
    return files


def write_vocabulary(policy: Policy, folder: Path) -> str | None:
    """Write what a GGUF base says of its tokenizer, for the new files to say the same; None of any other base.

    The file's own words are the most faithful: a converter would have to guess them from what was made of them.
    """
    source = Path(policy.base.source)
    if not is_gguf(source):
        return None
    header, target = read_parts(source)[0], folder / "vocabulary.json"
    entries = [
        (key, entry.kind, header.value(key))
        for key, entry in header.entries.items()
        if key.startswith("tokenizer.")
    ]
    target.write_text(json.dumps(entries), encoding="utf-8")
    return str(target)


def quantize(job: Job, source: Path, kind: str) -> Path:
    """Quantise the file `source` to the type `kind` in the work folder, and return the new file."""
    target = job.work / f"{job.name}-{kind}.gguf"
    request = {
        "task": f"Quantising to {kind}",
        "command": "quantize",
        "source": str(source),
        "target": str(target),
        "ftype": FORMATS[kind].ftype,
    }
    poll = _watch(job, f"Quantise to {kind}", [target], job.plan.bytes(kind))
    run_worker(LLAMA_WORKER, request, poll=poll)
    return target


def _watch(job: Job, phase: str, paths: Collection[Path], expected: int) -> Callable[[], None]:
    """Return a poll that shows how far the files under `paths` have grown."""

    def poll() -> None:
        job.progress.poll()
        written = sum(path.stat().st_size for path in paths if path.exists())
        job.progress.phase(phase, min(written, expected), expected)

    return poll
