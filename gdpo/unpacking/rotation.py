"""How positions rotate the heads of a model, by a GGUF file: what transformers leaves out of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .header import Header
from .weights import dense

_DEFAULT_BASE, _LOCAL_BASE = 10_000.0, 10_000.0
# Frequencies of Llama 3.1 and later come as a tensor of divisors, made by a rule with these numbers; the context is
# that before it was made longer, 8192 in all models that Meta has published.
_LOW, _HIGH = 1.0, 4.0
_CONTEXTS = (8192, *(2**power for power in range(8, 18)))


class UnreadError(ValueError):
    """The file says something that transformers would not compute by; the message is for the user."""


def rotation(header: Header) -> Iterator[tuple[str, Any]]:
    """Yield entries of the configuration.

    Raises:
        UnreadError: Positions are used in a way that is not known here.
    """
    of, own = header.of_architecture, header.architecture
    if of("rope.freq_base") is not None:
        yield "rope_theta", of("rope.freq_base")
    if own == "gemma3":
        yield "rope_local_base_freq", of("rope.freq_base_swa", _LOCAL_BASE)
        if isinstance(of("attention.sliding_window_pattern"), int):
            yield "sliding_window_pattern", of("attention.sliding_window_pattern")
    elif of("rope.freq_base_swa") is not None or of("attention.sliding_window_pattern") is not None:
        raise UnreadError("some of its layers rotate or look back otherwise than the others")
    scaling = _scaling(header)
    if scaling:
        yield "rope_scaling", scaling
    if of("rope.scaling.original_context_length") is not None:
        yield "original_max_position_embeddings", of("rope.scaling.original_context_length")


def _scaling(header: Header) -> dict[str, Any]:
    of = header.of_architecture
    kind, factor = of("rope.scaling.type", "linear"), of("rope.scaling.factor", 1.0)
    divisors = dense(header, "rope_freqs.weight")
    if divisors is not None:
        return _llama3(header, divisors.tolist())
    long, short = (dense(header, f"rope_factors_{one}.weight") for one in ("long", "short"))
    if long is not None and short is not None:
        return {
            "type": "longrope",
            "rope_type": "longrope",
            "long_factor": long.tolist(),
            "short_factor": short.tolist(),
        }
    if kind == "none" or (kind == "linear" and factor in (0.0, 1.0)):
        return {}
    if of("rope.scaling.attn_factor", 1.0) != 1.0 or kind not in {"linear", "yarn"}:
        raise UnreadError(f"its positions are scaled in a way that is not known here ({kind!r})")
    scaled = {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        scaled["original_max_position_embeddings"] = of("rope.scaling.original_context_length")
    return scaled


def _llama3(header: Header, divisors: list[float]) -> dict[str, Any]:
    """Return the rule that the divisors of the frequencies are made by.

    Raises:
        UnreadError: They are made by another one.
    """
    of = header.of_architecture
    width = of("attention.key_length", of("rope.dimension_count"))
    base = of("rope.freq_base", _DEFAULT_BASE)
    lengths = [2 * math.pi * base ** (place / width) for place in range(0, width, 2)]
    for context in _CONTEXTS:
        made = [_divisor(length, max(divisors), context) for length in lengths]
        if len(made) == len(divisors) and all(
            math.isclose(one, other, rel_tol=1e-3)
            for one, other in zip(made, divisors, strict=True)
        ):
            return {
                "rope_type": "llama3",
                "factor": max(divisors),
                "low_freq_factor": _LOW,
                "high_freq_factor": _HIGH,
                "original_max_position_embeddings": context,
            }
    raise UnreadError(
        "its frequencies (rope_freqs.weight) are made by a rule that is not known here"
    )


def _divisor(length: float, factor: float, context: int) -> float:
    """Return by what Llama 3 divides the frequency of a wave of so many positions."""
    if length < context / _HIGH:
        return 1.0
    if length > context / _LOW:
        return factor
    smooth = (context / length - _LOW) / (_HIGH - _LOW)
    return 1 / ((1 - smooth) / factor + smooth)
