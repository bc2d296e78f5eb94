"""What the check of an exported file found, as numbers, as a verdict and as the JSON that lies beside the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..llamacpp.runtime import runtime_remedy
from .formats import FORMATS, limit
from .verify import FileCheck, tensor_types


@dataclass(frozen=True)
class Report:
    """What is known of an exported file.

    Attributes:
        type: Name of its format, one of `EXPORT_TYPES`.
        kl: Mean KL(trained model || file) in nats per token; None if it was not measured or is not finite.
        top1: Share of positions at which both have the same likeliest token; None if it was not measured.
        positions: Number of positions that were compared.
        holds: True if the file holds what was trained; None if it was not verified.
        why: The reason in words.
        tensor_types: Number of tensors of each type in the file, most frequent first.
        bytes: Size of the file.
        rewards: Mean of each reward over the answers of the policy and over those of the file:
            `{name: {"policy": ..., "gguf": ...}}`.
    """

    type: str
    kl: float | None
    top1: float | None
    positions: int
    holds: bool | None
    why: str
    tensor_types: dict[str, int]
    bytes: int
    rewards: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the report as it is written beside the file and shown on the page."""
        return asdict(self)


def make_report(path: Path, kind: str, precision: str, check: FileCheck | None) -> Report:
    """Describe the file at `path`.

    Args:
        path: A GGUF.
        kind: Type that it should have.
        precision: Precision that the base was merged in, "fp32" or "bf16".
        check: Result of `compare_file`; None if the file could not be verified.
    """
    types, size = tensor_types(path), path.stat().st_size
    if check is None:
        why = f"not verified, because llama-cpp-python is not installed: {runtime_remedy()}"
        return Report(kind, None, None, 0, None, why, types, size)
    holds, why = judge(kind, precision, check, types)
    kl = check.kl if math.isfinite(check.kl) else None
    return Report(kind, kl, check.top1, check.positions, holds, why, types, size)


def judge(
    kind: str, precision: str, check: FileCheck, types: Mapping[str, int]
) -> tuple[bool, str]:
    """Decide whether a file of the type `kind` holds, and say why or why not in words."""
    allowed, tensor = limit(kind, precision), FORMATS[kind].tensor
    problems = list(check.problems)
    if not check.kl <= allowed:  # written so that NaN is a problem
        found = f"the next-token distributions differ by a KL of {check.kl:.2g}"
        problems.insert(0, f"{found}, over {allowed:g} for {kind}")
    if not check.top1 >= FORMATS[kind].min_top1:
        found = f"the likeliest token is the same at {check.top1:.0%} of the positions only"
        problems.append(f"{found}, under {FORMATS[kind].min_top1:.0%} for {kind}")
    if tensor not in types:
        problems.append(f"llama.cpp wrote no {tensor} tensor but {', '.join(types)}")
    verdict = f"KL {check.kl:.2g} and top-1 {check.top1:.2f} are within the limits of {kind}"
    return not problems, "; ".join([*(problems or [verdict]), *check.notes])
