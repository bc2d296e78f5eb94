"""Everything that can be known to fail is found here, before any work starts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import ExportError, shorten
from ..policy import Policy
from .converter import ConverterError, find_converter, runtime_remedy, runtime_version
from .formats import DIRECT_TYPES, EXPORT_TYPES, FORMATS, wide_type

# Above this many parameters the base is reloaded in bf16: fp32 would take over 12 GB of memory.
_FP32_PARAMETERS = 3_000_000_000
_DISK_MARGIN = 1.1
# llama.cpp's graph of these families has one fixed choice, whatever `norm_topk_prob` says, and converts
# the other one without a word.
_ALWAYS_NORMALISED = {
    "ernie4_5_moe",
    "hunyuan_v1_moe",
    "qwen3_moe",
    "qwen3_next",
    "qwen3_vl_moe",
    "qwen3_vl_moe_text",
    "qwen3_5_moe",
    "qwen3_5_moe_text",
}
_NEVER_NORMALISED = {"olmoe", "qwen2_moe"}


@dataclass(frozen=True)
class Plan:
    """An export that passed the checks.

    Attributes:
        source: The folder of the base's own files.
        converter: The folder of llama.cpp's converter.
        precision: "fp32" or "bf16", in which the base is reloaded and merged.
        targets: Where each type goes, in the order asked for.
        parameters: Number of weights, for progress and disk.
    """

    source: Path
    converter: Path
    precision: str
    targets: dict[str, Path]
    parameters: int

    @property
    def direct(self) -> tuple[str, ...]:
        """Types that the converter writes, among them the one that the others come from."""
        wanted = tuple(kind for kind in self.targets if kind in DIRECT_TYPES)
        source = wide_type(wanted)
        return wanted if len(wanted) == len(self.targets) or source in wanted else (*wanted, source)


def plan_export(policy: Policy, folder: Path, name: str, types: Sequence[str]) -> Plan:
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
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        method = config["quantization_config"].get("quant_method", "unknown")
        raise ExportError(
            f"{policy.base.source!r} is itself quantised ({method}) and cannot be merged without loss; "
            "train on, and export, the full-precision model."
        )
    try:
        converter = find_converter()
    except ConverterError as error:
        raise ExportError(str(error)) from error
    _check_architecture(config, type(policy.base.model).__name__, converter)
    _check_sentencepiece(source)
    _check_experts(policy)
    _check_rows(policy, types)
    if runtime_version() is None and any(kind not in DIRECT_TYPES for kind in types):
        kind = next(kind for kind in types if kind not in DIRECT_TYPES)
        raise ExportError(
            f"The type {kind} needs llama-cpp-python, which is not installed: {runtime_remedy()}. "
            f"Without it {', '.join(DIRECT_TYPES)} can be written."
        )
    parameters = policy.base.model.num_parameters()
    precision = "fp32" if parameters <= _FP32_PARAMETERS else "bf16"
    plan = Plan(source, converter, precision, targets, parameters)
    _check_disk(plan, folder)
    return plan


def source_folder(policy: Policy) -> Path:
    """The folder of the base's own files; of a hub id, its place in the local cache."""
    source = policy.base.source
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, local_files_only=True))
    except (OSError, ValueError) as error:
        raise ExportError(
            f"The files of {source!r} are no longer there; load the model again to fetch them."
        ) from error


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
    targets = {kind: folder / f"{name}-{kind}.gguf" for kind in types}
    for path in targets.values():
        if path.exists():
            raise ExportError(
                f"{str(path)!r} exists and is never overwritten; choose another name or remove it."
            )
    return targets


def _check_adapter(policy: Policy) -> None:
    if policy.adapter and policy.adapter.config.get("peft_type") != "LORA":
        kind = policy.adapter.config.get("peft_type")
        raise ExportError(f"Only LoRA adapters can be merged into a GGUF. Found {shorten(kind)}.")


def _check_architecture(config: dict, loaded: str, converter: Path) -> None:
    """The converter gets the base's own config.json, or one that names the loaded class alone."""
    # A table of names in newer converters, decorators in older ones; the name is quoted in both.
    package = converter / "conversion" / "__init__.py"
    listing = package if package.is_file() else converter / "convert_hf_to_gguf.py"
    text = listing.read_text(encoding="utf-8")
    first = (config.get("architectures") or [loaded])[0]
    for name in {first: None, loaded: None}:
        if f'"{name}"' not in text:
            raise ExportError(
                f"llama.cpp's converter in {str(converter)!r} does not know the architecture "
                f"{name!r}; train a model that it knows (Llama, Qwen, Gemma, Mistral, ...) or a newer one."
            )


def _check_sentencepiece(source: Path) -> None:
    if (source / "tokenizer.model").is_file() and find_spec("sentencepiece") is None:
        raise ExportError(
            "Converting this model's tokenizer.model needs sentencepiece, which is not installed: "
            "run `pip install sentencepiece`."
        )


def _check_experts(policy: Policy) -> None:
    config = policy.base.model.config
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    normalises = getattr(config, "norm_topk_prob", None)
    wrong = (
        _ALWAYS_NORMALISED if normalises is False else _NEVER_NORMALISED if normalises else set()
    )
    if config.model_type in wrong:
        raise ExportError(
            f"The model has norm_topk_prob={normalises}, which llama.cpp ignores for {config.model_type!r}: "
            "its output would be wrong; use another model."
        )


def row_lengths(config: object) -> dict[str, int]:
    """Row lengths of the weight matrices that a model's configuration implies, by their name in it."""
    config = config.get_text_config() if hasattr(config, "get_text_config") else config

    def read(*names: str) -> int | None:
        return next((getattr(config, n) for n in names if getattr(config, n, None)), None)

    heads = read("num_attention_heads", "n_head")
    rows = {
        "hidden_size": read("hidden_size", "n_embd", "d_model"),
        "intermediate_size": read("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
        "moe_intermediate_size": read("moe_intermediate_size"),
        "shared_expert_intermediate_size": read("shared_expert_intermediate_size"),
        "kv_lora_rank": read("kv_lora_rank"),
        "q_lora_rank": read("q_lora_rank"),
    }
    if heads and read("head_dim"):
        rows["num_attention_heads * head_dim"] = heads * read("head_dim")
    return {name: length for name, length in rows.items() if isinstance(length, int)}


def _check_rows(policy: Policy, types: Sequence[str]) -> None:
    rows = row_lengths(policy.base.model.config)
    for kind in types:
        multiple = FORMATS[kind].row
        odd = [f"{name} is {length}" for name, length in rows.items() if length % multiple]
        if odd:
            fitting = [k for k in FORMATS if all(n % FORMATS[k].row == 0 for n in rows.values())]
            raise ExportError(
                f"The type {kind} needs row lengths that are multiples of {multiple}, but "
                f"{' and '.join(odd)}, so llama.cpp would silently write other types; "
                f"these fit: {', '.join(fitting)}."
            )


def _check_disk(plan: Plan, folder: Path) -> None:
    bits = sum(FORMATS[kind].bits for kind in {*plan.targets, *plan.direct})
    bits += 32 if plan.precision == "fp32" else 16  # the merged model, for the converter
    needed = int(plan.parameters * bits / 8 * _DISK_MARGIN)
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ExportError(
            f"Exporting {', '.join(plan.targets)} takes about {needed / 1e9:.1f} GB for a while, and "
            f"{str(existing)!r} has {free / 1e9:.1f} GB free; free some space or choose fewer types."
        )
