"""Whether llama.cpp and its converter read a model right; where they do not, some of them say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import ExportError, shorten
from ..plain_files import check_plain, read_text
from .formats import FALLBACK_ROW, FORMATS

# llama.cpp has one fixed choice for these, whatever `norm_topk_prob` says, and converts the other one without a word.
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
_WEIGHTS = ("*.safetensors", "*.bin")
# One of these holds the tokens; the converter reads no other.
_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)
_NEVER_NORMALISED = {"olmoe", "qwen2_moe"}


def check_model(model: Any, config: dict[str, Any], source: Path, converter: Path) -> None:
    """Check the model's files, its architecture, its tokenizer and its experts.

    Args:
        model: The loaded model.
        config: Content of its config.json.
        source: Folder of its files.
        converter: Folder of llama.cpp's converter.

    Raises:
        ExportError: The converter does not know the model, or would convert it wrong.
    """
    _check_converter(converter)
    _check_files(source)
    _check_architecture(config, model, converter)
    _check_sentencepiece(source)
    _check_experts(model.config)
    _check_rotation(model.config)


def _check_converter(converter: Path) -> None:
    """Refuse a converter of which Python would wait for a file for ever."""
    packages = (converter / "conversion", converter / "gguf-py" / "gguf")
    inner = (file for package in packages for file in package.rglob("*.py"))
    for file in (*converter.glob("*.py"), *inner):
        try:
            check_plain(file)
        except OSError as error:
            raise ExportError(
                f"llama.cpp's converter cannot be read: {str(file)!r}: {error.strerror}; set the converter up again."
            ) from error


def _check_files(source: Path) -> None:
    """Refuse a folder without the files that the merged model is made of."""
    if not any(any(source.glob(pattern)) for pattern in _WEIGHTS):
        raise ExportError(
            f"The model's folder {str(source)!r} holds no weights any more ({', '.join(_WEIGHTS)}); get them back."
        )
    if not any((source / name).is_file() for name in _VOCABULARIES):
        raise ExportError(
            f"The model's folder {str(source)!r} holds no vocabulary that llama.cpp's converter reads "
            f"({', '.join(_VOCABULARIES)}); get the tokenizer's files of the model."
        )


def _check_architecture(config: dict, model: Any, converter: Path) -> None:
    """Refuse an architecture that the converter would not take, or would take for another."""
    # A table of names in newer converters, decorators in older ones; the name is quoted in both.
    package = converter / "conversion" / "__init__.py"
    listing = package if package.is_file() else converter / "convert_hf_to_gguf.py"
    text = read_text(listing)
    loaded = type(model).__name__
    named = next(iter(config.get("architectures") or ()), loaded)
    unknown = next((name for name in (named, loaded) if f'"{name}"' not in text), None)
    if unknown:
        raise ExportError(
            f"llama.cpp's converter in {str(converter)!r} does not know the architecture "
            f"{unknown!r}; train a model that it knows (Llama, Qwen, Gemma, Mistral, ...) or a newer one."
        )
    if named != loaded and not _is_of_the_same_model(named, config):
        raise ExportError(
            f"The model's config.json names the architecture {shorten(named)} first, but {loaded!r} was loaded and "
            "trained; get the model's original files."
        )


def _is_of_the_same_model(name: str, config: dict) -> bool:
    """Tell whether transformers knows the class for this type of model, as the whole of which a part was loaded."""
    import transformers

    known = getattr(getattr(transformers, str(name), None), "config_class", None)
    return known is not None and known.model_type == config.get("model_type")


def _check_sentencepiece(source: Path) -> None:
    if (source / "tokenizer.model").is_file() and find_spec("sentencepiece") is None:
        raise ExportError(
            "Converting this model's tokenizer.model needs sentencepiece, which is not installed: "
            "run `pip install sentencepiece`."
        )


def _check_experts(config: Any) -> None:
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


def _check_rotation(config: Any) -> None:
    """Refuse Bamba: the converter reorders the rows of whole heads, of which only a part is rotated."""
    share = (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0)
    if config.model_type == "bamba" and share != 1.0:
        raise ExportError("llama.cpp's converter reads heads of 'bamba' wrong; use another model.")


def row_lengths(config: Any) -> dict[str, int]:
    """Return row lengths of the weight matrices that a model's configuration implies, by their name in it."""
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    if not getattr(config, "is_heterogeneous", False):
        return _row_lengths(config)
    rows: dict[str, int] = {}  # such as Gemma 4's, whose heads are wider in some layers
    for number, layer in enumerate(config.per_layer_config):
        own = _row_lengths(layer).items()
        rows |= {
            name if rows.get(name, length) == length else f"{name} of layer {number}": length
            for name, length in own
        }
    return rows


def _row_lengths(config: Any) -> dict[str, int]:
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
    width = read("head_dim")
    if heads and width:
        rows["num_attention_heads * head_dim"] = heads * width
    return {name: length for name, length in rows.items() if isinstance(length, int)}


def check_rows(config: Any, types: Sequence[str]) -> None:
    """Check that the model's rows can be divided into the blocks of each type, or of those that it falls back to.

    Raises:
        ExportError: They cannot, and llama.cpp would leave them at 16 bits.
    """
    rows = row_lengths(config)
    for kind in types:
        multiple = _block(kind)
        odd = [f"{name} is {length}" for name, length in rows.items() if length % multiple]
        if odd:
            fitting = [k for k in FORMATS if all(n % _block(k) == 0 for n in rows.values())]
            raise ExportError(
                f"The type {kind} needs row lengths that are multiples of {multiple}, but "
                f"{' and '.join(odd)}, so llama.cpp would silently write other types; "
                f"these fit: {', '.join(fitting)}."
            )


def falls_back(config: Any, kind: str) -> bool:
    """Tell whether some of the model's tensors fall back to another type in a file of the type `kind`."""
    return any(length % FORMATS[kind].row for length in row_lengths(config).values())


def _block(kind: str) -> int:
    return min(FORMATS[kind].row, FALLBACK_ROW)
