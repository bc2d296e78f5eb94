"""Everything that can be known to fail is found here, before any work starts."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExportError, shorten
from ..llamacpp.runtime import runtime_remedy, runtime_version
from ..plain_files import read_text
from ..policies.folder_kinds import packing_of
from ..policies.policy import Policy
from ..unpacking.folder import naming
from .converter import ConverterError, find_converter
from .formats import DIRECT_TYPES, EXPORT_TYPES, FALLBACK_BITS, FORMATS, PLAIN_TYPES, wide_type
from .model_checks import check_model, check_rows, falls_back
from .source_files import source_folder

# Above this many parameters the base is reloaded in bf16: fp32 would take over 12 GB of memory.
_FP32_PARAMETERS = 3_000_000_000
_DISK_MARGIN = 1.1


@dataclass(frozen=True)
class ExportPlan:
    """An export that passed the checks.

    Attributes:
        source: The folder of the base's own files.
        converter: The folder of llama.cpp's converter.
        precision: "fp32" or "bf16", in which the base is reloaded and merged.
        targets: Where each type goes, in the order asked for.
        parameters: Number of weights, for progress and disk.
        fallen: Types of which some tensors will have another one, because their rows do not fit.
    """

    source: Path
    converter: Path
    precision: str
    targets: dict[str, Path]
    parameters: int
    fallen: frozenset[str] = frozenset()

    @property
    def direct(self) -> tuple[str, ...]:
        """Types that the converter writes, among them the one that the others come from and are compared with."""
        wanted = tuple(kind for kind in self.targets if kind in DIRECT_TYPES)
        # A block type that the converter writes is verified beside it too, where anything can be verified.
        plain = DIRECT_TYPES if runtime_version() is None else PLAIN_TYPES
        source = wide_type(wanted)
        needed = any(kind not in plain for kind in self.targets)
        return (*wanted, source) if needed and source not in wanted else wanted

    def bytes(self, kind: str) -> int:
        """Return about how large a file of a type is."""
        bits = FORMATS[kind].bits
        return int(
            self.parameters * (max(bits, FALLBACK_BITS) if kind in self.fallen else bits) / 8
        )


def plan_export(policy: Policy, folder: Path, name: str, types: Sequence[str]) -> ExportPlan:
    """Check that `policy` can be exported as asked.

    Args:
        policy: What to export.
        folder: Where the files go; need not exist yet.
        name: File name without type and suffix.
        types: Some of `EXPORT_TYPES`.

    Raises:
        ExportError: It cannot; the message says why and what to do.
    """
    targets = _targets(folder, name, types)
    _check_adapter(policy)
    source = source_folder(policy)
    with naming(Path(policy.base.source), source):
        return _plan(policy, source, folder, targets)


def _plan(policy: Policy, source: Path, folder: Path, targets: dict[str, Path]) -> ExportPlan:
    config, types = _read_config(source / "config.json"), tuple(targets)
    if config.get("quantization_config") is not None:
        method = packing_of(config) or "unknown"
        raise ExportError(
            f"{policy.base.source!r} is itself quantised ({method}) and cannot be merged without loss; "
            "train on, and export, the full-precision model."
        )
    try:
        converter = find_converter()
    except ConverterError as error:
        raise ExportError(str(error)) from error
    check_model(policy.base.model, config, source, converter)
    check_rows(policy.base.model.config, types)
    if runtime_version() is None and any(kind not in DIRECT_TYPES for kind in types):
        kind = next(kind for kind in types if kind not in DIRECT_TYPES)
        raise ExportError(
            f"The type {kind} needs llama-cpp-python, which is not installed: {runtime_remedy()}. "
            f"Without it {', '.join(DIRECT_TYPES)} can be written."
        )
    parameters = policy.base.model.num_parameters()
    precision = "fp32" if parameters <= _FP32_PARAMETERS else "bf16"
    fallen = frozenset(kind for kind in types if falls_back(policy.base.model.config, kind))
    plan = ExportPlan(source, converter, precision, targets, parameters, fallen)
    _check_disk(plan, folder)
    return plan


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


def _read_config(file: Path) -> dict[str, Any]:
    """The configuration of the base, whose files may have changed since it was loaded."""
    try:
        config = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(
            f"{str(file)!r} cannot be read ({shorten(str(error), 120)}); get the model's original file."
        ) from error
    if not isinstance(config, dict):
        raise ExportError(
            f"{str(file)!r} should hold a JSON object. Found {shorten(config)}; get the model's original file."
        )
    return config


def _targets(folder: Path, name: str, types: Sequence[str]) -> dict[str, Path]:
    if not types:
        raise ExportError(f"`types` is empty; choose from {', '.join(EXPORT_TYPES)}.")
    for kind in types:
        if kind not in FORMATS:
            raise ExportError(
                f"`types` should be of {', '.join(EXPORT_TYPES)}. Found {shorten(kind)}."
            )
    if not re.fullmatch(r'[^.<>:"/\\|?*\x00-\x1f][^<>:"/\\|?*\x00-\x1f]{0,99}', name):
        raise ExportError(
            f"`name` should be a plain file name without folders. Found {shorten(name)}."
        )
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{str(folder)!r} is a file, not a folder; choose another folder.")
    _check_writable(_existing(folder))
    targets = {kind: folder / f"{name}-{kind}.gguf" for kind in types}
    for path in targets.values():
        if path.exists():
            raise ExportError(
                f"{str(path)!r} exists and is never overwritten; choose another name or remove it."
            )
    return targets


def _check_writable(folder: Path) -> None:
    """Refuse a folder in which no file can be made, which only making one tells for sure."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ExportError(
            f"{str(folder)!r} cannot be written ({error.strerror}); restore its permissions, or choose another folder."
        ) from error


def _check_adapter(policy: Policy) -> None:
    if policy.adapter and policy.adapter.config.get("peft_type") != "LORA":
        kind = policy.adapter.config.get("peft_type")
        raise ExportError(f"Only LoRA adapters can be merged into a GGUF. Found {shorten(kind)}.")


def _check_disk(plan: ExportPlan, folder: Path) -> None:
    files = sum(plan.bytes(kind) for kind in {*plan.targets, *plan.direct})
    merged = plan.bytes("F32" if plan.precision == "fp32" else "F16")  # for the converter
    needed = int((files + merged) * _DISK_MARGIN)
    existing = _existing(folder)
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ExportError(
            f"Exporting {', '.join(plan.targets)} takes about {needed / 1e9:.1f} GB for a while, and "
            f"{str(existing)!r} has {free / 1e9:.1f} GB free; free some space or choose fewer types."
        )
