"""Makes a model's folder of a GGUF file, as a program: `worker.py REQUEST.json RESPONSE.jsonl`.

The file may come from a stranger. So its header is read within bounds first, and what transformers then makes of it
is made here, in a process of its own that may take so much memory and no more.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from .config import read_config
from .header import Header, header_bytes, read_header
from .tokenizer import write_tokenizer
from .weights import Reader

# Divisors of frequencies are in the configuration, see `config.py`.
_OTHERWISE_READ = re.compile(r"rope_freqs\.weight|rope_factors_(long|short)\.weight")
_EXPERTS = re.compile(r"(.*\.ffn_(?:gate|up|down)_exps)\.weight")


def unpack(request: dict) -> Iterator[dict]:
    """Write the folder's files; one line for each step."""
    import gguf

    source, folder = Path(request["gguf"]), Path(request["folder"])
    with source.open("rb") as file:
        header = read_header(source, file.read(header_bytes()), source.stat().st_size)
    reading: Any = gguf
    # Newer versions of transformers read the vocabulary by themselves.
    found = Reader(header, words=find_spec("transformers.integrations.gguf") is None)
    reading.GGUFReader = lambda *_, **__: found
    write_tokenizer(header, source, folder)
    yield {"step": "tokenizer"}
    found = Reader(header, words=False)
    config = read_config(header, str(source.parent), source.name)
    model = _load(source, config, request["dtype"])
    _check_read(header, model)
    yield {"step": "weights"}
    _save(model, folder)
    yield {"step": "saved", "class": type(model).__name__}


def _load(source: Path, config: Any, dtype: str) -> Any:
    import torch
    import transformers

    options: dict[str, Any] = {_dtype_name(transformers.__version__): getattr(torch, dtype)}
    if hasattr(
        transformers, "GgufConfig"
    ):  # newer versions keep the weights packed unless they are told
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
        str(source.parent),
        gguf_file=source.name,
        config=config,
        local_files_only=True,
        ignore_mismatched_sizes=True,  # they are refused by name, from the report
        output_loading_info=True,
        **options,
    )
    model, report = loaded
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    missing = sorted(set(report["missing_keys"]) - tied)
    if missing:
        raise ValueError(f"it lacks {len(missing)} of the weights ({missing[0]})")
    if report["mismatched_keys"]:
        first = min(map(str, report["mismatched_keys"]))
        raise ValueError(f"its weights have other shapes than its numbers say ({first})")
    return model


def _check_read(header: Header, model: Any) -> None:
    """Refuse a file with a tensor that has found no place in the model: llama.cpp computes by all of them."""
    from transformers import modeling_gguf_pytorch_utils as reading

    if header.architecture not in {
        *reading.GGUF_SUPPORTED_ARCHITECTURES,
        *reading.TENSOR_PROCESSORS,
    }:
        return
    kind = reading.TENSOR_PROCESSORS.get(header.architecture, reading.TensorProcessor)
    options = {"processor": kind(config=model.config.to_dict())}
    if "processor" not in signature(reading.get_gguf_hf_weights_map).parameters:  # before 4.52
        options = {}
    places = reading.get_gguf_hf_weights_map(model, **options)
    for tensor in header.tensors:
        experts = _EXPERTS.fullmatch(tensor.name)
        known = {tensor.name, experts.group(1) if experts else tensor.name}
        if not known & places.keys() and not _OTHERWISE_READ.fullmatch(tensor.name):
            raise ValueError(
                f"its tensor {tensor.name!r} has no place in the model that transformers makes of it"
            )


def _save(model: Any, folder: Path) -> None:
    """Write config.json and the weights; a model from such a file counts as packed in newer versions."""
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized = False
    model.config.architectures = [type(model).__name__]
    own = (folder / "generation_config.json").read_bytes()
    model.save_pretrained(str(folder), max_shard_size="4GB")
    (folder / "generation_config.json").write_bytes(own)


def _dtype_name(version: str) -> str:
    """Return how the argument is called; transformers renamed it in 4.56."""
    major, minor = map(int, version.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"


def main(arguments: Sequence[str]) -> int:
    """Carry out the request; the exit code is 0 only when all of it is done."""
    request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    limited = globals()["limited"]  # `workers/start.py` has put it among these names
    with Path(arguments[1]).open("w", encoding="utf-8", newline="\n") as response:

        def write(line: dict) -> None:
            response.write(json.dumps(line) + "\n")
            response.flush()

        try:
            with limited(request["memory"], request["seconds"]):
                for line in unpack(request):
                    write(line)
        except Exception as error:  # noqa: BLE001  a library that raises anything
            write({"error": _describe(error)})
            return 1
    return 0


def _describe(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "it takes more memory than a file of its size should"
    own = isinstance(error, ValueError)
    text = " ".join(str(error).split())[:300]
    return text if own else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
