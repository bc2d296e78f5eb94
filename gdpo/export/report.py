"""What the check of an exported file found, as numbers, as a verdict and as the JSON that lies beside the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..llamacpp.runtime import runtime_remedy
from .formats import FORMATS, limit, limit_beside
from .tensors import Tensors, count_tensors
from .verify import FileCheck

# From so large a ratio on it is said: the base came out of a quantised file.
_ROUNDED_BEFORE = 1.5


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
        fell_back: Number of tensors of each type that have it because their rows do not fit the type asked for.
        bits_per_weight: Bits of all tensors by the number of weights.
        base_kl: Mean KL(base || base quantised in the same way) on the same texts, where it was asked for.
        max_new_tokens: Longest answer that was compared; None if none was.
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
    fell_back: dict[str, int] = field(default_factory=dict)
    bits_per_weight: float | None = None
    base_kl: float | None = None
    max_new_tokens: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as it is written beside the file and shown on the page."""
        return asdict(self)


def make_report(
    path: Path,
    kind: str,
    precision: str,
    check: FileCheck | None,
    max_new_tokens: int | None = None,
) -> Report:
    """Describe the file at `path`.

    Args:
        path: A GGUF.
        kind: Type that it should have.
        precision: Precision that the base was merged in, "fp32" or "bf16".
        check: Result of `compare_file`; None if the file could not be verified.
        max_new_tokens: Longest answer that was compared.
    """
    found = count_tensors(path, kind)
    known: dict[str, Any] = {
        "tensor_types": found.types,
        "bytes": path.stat().st_size,
        "fell_back": found.fell_back,
        "bits_per_weight": round(found.bits, 3),
    }
    if check is None:
        why = f"not verified, because llama-cpp-python is not installed: {runtime_remedy()}"
        why = "; ".join(filter(None, [why, found.note(kind)]))
        return Report(kind, None, None, 0, None, why, **known)
    holds, why = judge(kind, precision, check, found.types, found)
    kl = check.kl if math.isfinite(check.kl) else None
    known |= {"base_kl": check.base_kl, "max_new_tokens": max_new_tokens}
    return Report(kind, kl, check.top1, check.positions, holds, why, **known)


def judge(
    kind: str,
    precision: str,
    check: FileCheck,
    types: Mapping[str, int],
    tensors: Tensors | None = None,
) -> tuple[bool, str]:
    """Decide whether a file of the type `kind` holds, and say why or why not in words.

    Args:
        kind: Type that it should have.
        precision: Precision that the base was merged in.
        check: Result of `compare_file`.
        types: Number of tensors of each type in the file.
        tensors: What else is known of them.
    """
    tensor, fallen = FORMATS[kind].tensor, tensors.note(kind) if tensors else ""
    problems = [*_far(kind, precision, check), *check.problems]
    if not check.top1 >= FORMATS[kind].min_top1:
        found = f"the likeliest token is the same at {check.top1:.0%} of the positions only"
        problems.append(f"{found}, under {FORMATS[kind].min_top1:.0%} for {kind}")
    if tensor not in types and not fallen:
        problems.append(f"llama.cpp wrote no {tensor} tensor but {', '.join(types)}")
    verdict = f"KL {check.kl:.2g} and top-1 {check.top1:.2f} are within the limits of {kind}"
    if not problems and check.base_kl is not None:
        verdict = f"KL {check.kl:.2g} is what {kind} costs: {_base_loss(check)}"
    notes = [*(problems or [verdict]), *check.notes, fallen]
    return not problems, "; ".join(filter(None, notes))


def is_far(kind: str, precision: str, check: FileCheck) -> bool:
    """Tell whether a file is farther from the model than its type's own limit."""
    return not check.kl <= limit(kind, precision)  # written so that NaN is far


def _far(kind: str, precision: str, check: FileCheck) -> list[str]:
    """Say that a file is too far from the model: for its type, and beside the base quantised in the same way."""
    allowed, beside = limit(kind, precision), ""
    if check.base_kl is not None:
        allowed = limit_beside(kind, precision, check.base_kl)
        beside = f": {_base_loss(check)}"
    if check.kl <= allowed:
        return []
    found = f"the next-token distributions differ by a KL of {check.kl:.2g}"
    return [f"{found}, over {allowed:.2g} for {kind}{beside}"]


def _base_loss(check: FileCheck) -> str:
    found = f"the base alone loses {check.base_kl:.2g} on the same texts"
    again = f", of weights that are rounded {check.rounding:.2g} times less"
    return found + again if check.rounding >= _ROUNDED_BEFORE else found
