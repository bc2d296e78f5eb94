"""Every difference between the versions of transformers that this library works with, 4.50 to 5.

The functions look at what the installed version has, where that can be seen, and at its number otherwise. No other
module asks for a version.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Container, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor


class CachedLayer(NamedTuple):
    """What a cache holds for one layer.

    Attributes:
        keys: `(B, KV, P, D)`.
        values: The same shape.
        window: Tokens that the cache keeps of a sequence at most; None if it keeps all.
    """

    keys: Tensor
    values: Tensor
    window: int | None


def cached_layers(cache: Any) -> list[CachedLayer]:
    """Return the contents of transformers' cache, layer by layer."""
    if hasattr(cache, "layers"):
        return [
            CachedLayer(layer.keys, layer.values, getattr(layer, "sliding_window", None))
            for layer in cache.layers
        ]
    # Before transformers 4.54 the cache was two lists of tensors, and knew no windows.
    pairs = zip(cache.key_cache, cache.value_cache, strict=True)
    return [CachedLayer(keys, values, None) for keys, values in pairs]


def full_cache() -> Any:
    """Return an empty cache that keeps all keys, those that have left a window too."""
    from transformers import DynamicCache

    return DynamicCache()


def windowed_cache(model: Any) -> Any:
    """Return an empty cache for the model; it forgets what has left a window, from transformers 4.56 on."""
    from transformers import DynamicCache

    return DynamicCache(config=model.config) if _caches_have_windows() else DynamicCache()


def needs_fixed_cache(config: Any) -> bool:
    """Tell whether the model's own cache has a fixed size, so that its rows can be neither repeated nor dropped.

    Before transformers 4.56, that was so for models of full and sliding layers.
    """
    return not _caches_have_windows() and getattr(config, "cache_implementation", None) == "hybrid"


def dtype_argument(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """Return the keyword argument that makes `from_pretrained` and `from_config` use a dtype."""
    import transformers
    from packaging.version import Version

    # The argument was renamed in 4.56, which warns about the old name since.
    renamed = Version(transformers.__version__) >= Version("4.56")
    return {"dtype" if renamed else "torch_dtype": dtype}


class LoadReport(NamedTuple):
    """What `from_pretrained` says about the names in a model's files.

    Attributes:
        missing: Weights of the model that no file holds.
        mismatched: Weights that the files hold in another shape.
        unexpected: Tensors of the files that the model has no place for.
    """

    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_report(info: dict[str, Any], model: Any, held: Container[str]) -> LoadReport:
    """Return in one form what `from_pretrained` reports with `output_loading_info`.

    Args:
        info: The report. Its mismatched weights are names in some versions, and names with both shapes in others.
        model: The model that was loaded.
        held: Names in its files. Some versions put the model's own prefix before unexpected ones.
    """
    mismatched = {one if isinstance(one, str) else one[0] for one in info["mismatched_keys"]}
    prefix = f"{model.base_model_prefix}."
    unexpected = {n if n in held else n.removeprefix(prefix) for n in info["unexpected_keys"]}
    found = (info["missing_keys"], mismatched, unexpected)
    return LoadReport(*(tuple(sorted(names)) for names in found))


def saved_dtype(config: Any) -> torch.dtype:
    """Return the dtype of the weights in the model's files, by its configuration; fp32 if it says nothing."""
    saved = getattr(config, "dtype", None) or getattr(config, "torch_dtype", None) or torch.float32
    return getattr(torch, saved) if isinstance(saved, str) else saved


def enable_checkpointing(inner: Any) -> None:
    """Switch activation checkpointing on, in the form that does not need inputs with gradients."""
    prefix = _checkpointing_prefix(inner)
    options = {f"{prefix}_checkpointing_kwargs": {"use_reentrant": False}}
    getattr(inner, f"{prefix}_checkpointing_enable")(**options)


def disable_checkpointing(inner: Any) -> None:
    """Switch activation checkpointing off."""
    getattr(inner, f"{_checkpointing_prefix(inner)}_checkpointing_disable")()


@contextmanager
def without_renaming_warning() -> Iterator[None]:
    """Silence the warning about `is_gradient_checkpointing`, which peft reads and transformers 5 has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        yield


@contextmanager
def autocast_on_meta() -> Iterator[None]:
    """Let models without contents, on the `meta` device, pass through `torch.autocast` in the block.

    Rotary embeddings switch autocasting off for their device's type, and torch refuses to do so for `meta`. Since
    version 5 transformers leaves the call out there. For all other devices torch's own class goes on to work, in
    other threads too.
    """
    from transformers.utils import generic

    if hasattr(generic, "maybe_autocast"):
        yield
        return
    original = torch.autocast

    def autocast(device_type: str, *args: Any, **options: Any) -> Any:
        return nullcontext() if device_type == "meta" else original(device_type, *args, **options)

    torch.autocast = autocast  # where models look it up
    try:
        yield
    finally:
        torch.autocast = original


def embedding_scale(decoder: Any, config: Any) -> float:
    """Return the factor of the embeddings that the decoder's forward applies, and not its embedding layer.

    Gemma's embedding layer has applied its factor itself since transformers 5.
    """
    by_forward = config.model_type in {"gemma", "gemma2"}
    if by_forward and type(decoder.embed_tokens) is torch.nn.Embedding:
        return config.hidden_size**0.5
    return getattr(config, "embedding_multiplier", 1.0)


def kept_targets(model: Any, names: list[str]) -> list[str]:
    """Return the layers that peft puts LoRA on by these names.

    Since transformers 5 some models' experts are bare parameters, and peft takes names such as `gate_proj` for theirs,
    wherever they stand: the layer would go without and the parameters get LoRA.
    """
    try:
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
    except ImportError:  # before either of the two knew of it
        return names
    from peft import LoraConfig

    def keeps(last: str) -> bool:
        config = LoraConfig(target_modules=[last])
        try:
            convert_peft_config_for_transformers(config, model=model, conversions=None)
        except ValueError:  # it is half of what has become one parameter
            return False
        return last in (config.target_modules or ())

    kept = {last for last in {name.rpartition(".")[2] for name in names} if keeps(last)}
    return [name for name in names if name.rpartition(".")[2] in kept]


def _checkpointing_prefix(inner: Any) -> str:
    """Return what the names of the two methods begin with; transformers renamed them in version 5."""
    return "activation" if hasattr(inner, "activation_checkpointing_enable") else "gradient"


def _caches_have_windows() -> bool:
    from transformers import DynamicCache

    return "config" in inspect.signature(DynamicCache.__init__).parameters
