"""The GGUF types that can be exported, and what is expected of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """One file type of llama.cpp.

    Attributes:
        ftype: Its number in llama.cpp (`llama_ftype`).
        tensor: The tensor type that gives it its name.
        bits: Bits per weight, for the disk estimate.
        row: Tensors whose rows are no multiple of this fall back to another type.
        max_kl: Largest mean KL(trained model || file) in nats per token that still holds.
        min_top1: Smallest share of positions with the same likeliest token that still holds.
    """

    ftype: int
    tensor: str
    bits: float
    row: int
    max_kl: float
    min_top1: float


# max_kl. F32 and F16: rounding is all that may differ; measured 1e-6 and less, while a wrong permutation,
# scale or normalisation gives 0.005 to 0.6. The others: about three times the worst that was measured on
# random and trained models of 2 to 4 million parameters, which lose the most (the trained one a tenth of
# the random ones). Such limits are too wide to notice a small error of the conversion, so the F16 or F32
# file that a quantised one is made from is held to its own limit too.
# min_top1: about two thirds of the worst that was measured on random models, whose logits are nearly flat;
# a model that is sure of itself stays near 1 in all types.
FORMATS: dict[str, Format] = {
    "F32": Format(0, "F32", 32.0, 1, 1e-3, 0.98),
    "F16": Format(1, "F16", 16.0, 1, 1e-3, 0.98),
    "BF16": Format(32, "BF16", 16.0, 1, 2e-3, 0.95),
    "Q8_0": Format(7, "Q8_0", 8.5, 32, 0.005, 0.75),
    "Q6_K": Format(18, "Q6_K", 6.6, 256, 0.04, 0.6),
    "Q5_K_M": Format(17, "Q5_K", 5.7, 256, 0.12, 0.45),
    "Q5_0": Format(8, "Q5_0", 5.6, 32, 0.15, 0.4),
    "Q4_K_M": Format(15, "Q4_K", 4.9, 256, 0.4, 0.25),
    "IQ4_XS": Format(30, "IQ4_XS", 4.5, 256, 0.4, 0.2),
    "IQ4_NL": Format(25, "IQ4_NL", 4.7, 32, 0.4, 0.2),
    "Q4_0": Format(2, "Q4_0", 4.6, 32, 0.6, 0.1),
    "Q3_K_M": Format(12, "Q3_K", 4.0, 256, 1.0, 0.05),
    "Q2_K": Format(10, "Q2_K", 3.2, 256, 2.0, 0.0),
}
# Added where the model is too large for fp32 and the trained model's own logits are computed in bf16
# (measured 1e-4 on 4 layers; it grows with depth).
BF16_NOISE = 2e-3
# Above its limit a file still holds if it loses no more than so many times what its base loses, and no more than so many
# times the limit.
BESIDE, MOST = 2.0, 4.0
EXPORT_TYPES = tuple(FORMATS)
# Nothing but the rounding of single numbers is lost in these; the others round whole blocks.
PLAIN_TYPES = ("F32", "F16", "BF16")
# Block of the types that tensors fall back to where a row does not fit; rows that do not fit that either stay F16.
FALLBACK_ROW = 32
# Bits per weight of a tensor that fell back, at most: of Q8_0, for the disk estimate.
FALLBACK_BITS = 8.5
# The converter writes these by itself; all others need llama-cpp-python.
DIRECT_TYPES = ("F32", "F16", "BF16", "Q8_0")


def wide_type(types: Sequence[str]) -> str:
    """Return the type that the others are quantised from: the most exact one that is written anyway."""
    return "F32" if "F32" in types else "F16"


def limit(kind: str, precision: str) -> float:
    """Return the largest KL that a file of type `kind` may have against a model in `precision`."""
    return FORMATS[kind].max_kl + (BF16_NOISE if precision == "bf16" else 0.0)


def limit_beside(kind: str, precision: str, base_kl: float) -> float:
    """Return the same limit where the base, quantised in the same way, is known to lose `base_kl` on the same texts."""
    allowed = limit(kind, precision)
    return max(allowed, min(BESIDE * base_kl, MOST * allowed))
