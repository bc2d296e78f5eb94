"""Loading a stranger's model: safetensors or a GGUF file alone, none of its code, nothing else fetched."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..allocator import returning_freed_memory
from ..errors import PolicyError
from ..out_of_memory import is_out_of_memory
from .architectures import check_architectures
from .base import Base
from .compat import dtype_argument, load_report
from .completeness import check_complete, explain_failure
from .configuration import build, read_config
from .folder_checks import read_json
from .policy import Policy
from .precision import is_quantised, resolve_device, resolve_precision, weights_dtype
from .remedies import because
from .sources import content_sums, find_folder, naming_source, resolve_source
from .stranger import mark
from .token_ids import check_ids
from .tokenizer_class import load_tokenizer
from .weight_files import read_weight_files

logger = logging.getLogger(__name__)

_USUAL = "check that the folder is complete and of a causal language model"


def load_policy(
    model: str | Path,
    *,
    precision: str = "auto",
    device: str = "auto",
    allow_download: bool = False,
    poll: Callable[[], None] = lambda: None,
) -> Policy:
    """Load a causal language model from a folder, a GGUF file, or by hub id, as an untrained policy.

    Only safetensors and GGUF files are read and no code that comes with a model is run.

    Args:
        model: A folder with `config.json`, a GGUF file (of a split model any part), or a hub id such as
            `Qwen/Qwen2.5-0.5B-Instruct`.
        precision: One of `PRECISIONS`; "auto" is bf16 (fp16 on old cards) on CUDA and fp32 on a CPU.
        device: "auto" (CUDA when there is one), "cpu", "cuda" or "cuda:0".
        allow_download: Whether a hub id may be fetched; otherwise only the local cache is read.
        poll: Function that is called while the files are looked at; it may raise to stop.

    Raises:
        PolicyError: The model cannot be used; the message says why and what to do.
    """
    device = resolve_device(device)
    precision = resolve_precision(precision, device)
    source = resolve_source(model)
    folder = find_folder(source, allow_download, poll)
    with naming_source(source, folder):
        config = read_config(folder, poll)
        tokenizer = _load_tokenizer(source, folder)
        with returning_freed_memory(device):
            module = _load_model(source, folder, config, precision, device)
        check_architectures(read_json(folder / "config.json"), module, source)
        check_ids(module, tokenizer, source)
    if not tokenizer.chat_template:
        logger.warning(
            "%r has no chat template: prompts are given to it as plain text, without roles.", source
        )
    return Policy(
        Base(module, tokenizer, source, precision, device, *content_sums(source, folder, poll))
    )


def _load_tokenizer(source: str, folder: Path) -> Any:
    try:
        tokenizer = load_tokenizer(str(folder))
    except Exception as error:
        raise PolicyError(_load_message("tokenizer", source, folder, error)) from error
    mark(tokenizer, folder)
    if tokenizer.eos_token_id is None:
        raise PolicyError(
            f"The tokenizer of {source!r} names no end-of-sequence token, so no completion could end; "
            "set `eos_token` in its tokenizer_config.json."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_model(source: str, folder: Path, config: Any, precision: str, device: str) -> Any:
    import transformers

    dtype = weights_dtype(precision, device)
    options: dict[str, Any] = dtype_argument(dtype)
    if is_quantised(precision):
        options["quantization_config"] = _quantization(precision, dtype)
        options["device_map"] = {"": device}
    files = read_weight_files(folder)
    try:
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are refused by name, from the report
            output_loading_info=True,
            **options,
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise PolicyError(
                f"The model of {source!r} does not fit into the free memory of {device!r} in {precision}; free some, "
                "or choose nf4 or a smaller model."
            ) from error
        reason = explain_failure(build(config, dtype), files, source)
        raise PolicyError(reason or _load_message("model", source, folder, error)) from error
    model, info = loaded
    check_complete(model, load_report(info, model, files.shapes), files, source)
    return _prepared(model, source, precision, device)


def _prepared(model: Any, source: str, precision: str, device: str) -> Any:
    model.name_or_path = source  # what adapters call their base, not its place in a cache
    if not is_quantised(precision):
        model = model.to(device)
    for module in model.modules():
        # bitsandbytes repacks 4-bit weights for inference on such CPUs; its kernel for the packed form has no
        # backward, so gradients after the first sampling would silently stop at the layer.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model.eval().requires_grad_(False)


def _quantization(precision: str, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    if precision == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def _load_message(part: str, source: str, folder: Path, error: Exception) -> str:
    why = because(f"{type(error).__name__}: {error}", folder, _USUAL)
    return f"The {part} of {source!r} cannot be loaded{why}."
