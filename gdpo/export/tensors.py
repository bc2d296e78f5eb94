"""The tensors of an exported file: their types, those that fell back to another, and whether rounding is all they lost.

A block of K-quants is 256 weights of a row. Of a model whose rows are no multiple of it (640 of Gemma 3 270M, 896 of
Qwen2.5 0.5B) llama.cpp writes the tensors that do not fit in a type of smaller blocks, which takes more bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..llamacpp.tensor_table import Tensor, read_table
from .formats import FORMATS

# Weights of a tensor that are looked at, in rows that lie evenly in it: a large tensor has a hundred times as many.
_SAMPLE = 2**21
# Largest |1 - s| and |q - s w| / |w| of the rounded weights q of w, s being the factor by which they are nearest. A block of
# n weights that is divided into 2L steps loses at most sqrt(n / 12) / L of its norm; the limits are that, and a half more
# for the rounding of the scales. What was measured on a trained and a random model is at most a third of the first and half
# of the second.
_LOSSES: dict[str, tuple[float, float]] = {
    "F32": (1e-3, 1e-3),
    "F16": (1e-3, 1e-3),
    "BF16": (5e-3, 5e-3),
    "Q8_0": (5e-3, 0.02),
    "Q6_K": (0.01, 0.06),
    "Q5_0": (0.015, 0.15),
    "Q5_1": (0.015, 0.15),
    "Q5_K": (0.015, 0.15),
    "Q4_0": (0.03, 0.3),
    "Q4_1": (0.03, 0.3),
    "Q4_K": (0.03, 0.3),
    "IQ4_NL": (0.03, 0.3),
    "IQ4_XS": (0.03, 0.3),
    "Q3_K": (0.03, 0.4),
}
_COARSE = (0.06, 0.6)  # two bits a weight


@dataclass(frozen=True)
class Tensors:
    """What a file consists of.

    Attributes:
        types: Number of tensors of each type, most frequent first.
        fell_back: Number of tensors of each type that have it because their rows do not fit the type asked for.
        bits: Bits per weight over all tensors.
        row: Number that the rows would have to be a multiple of.
    """

    types: dict[str, int]
    fell_back: dict[str, int] = field(default_factory=dict)
    bits: float = 0.0
    row: int = 1

    def note(self, kind: str) -> str:
        """Tell of the tensors that fell back from the type `kind`; empty if none did."""
        if not self.fell_back:
            return ""
        count, whole = sum(self.fell_back.values()), sum(self.types.values())
        others = " / ".join(self.fell_back)
        return (
            f"{count} of {whole} tensors fell back from {kind} to {others}, as their rows are no multiple of {self.row}: "
            f"{self.bits:.1f} bits per weight"
        )


def count_tensors(path: Path, kind: str) -> Tensors:
    """Count what the file at `path`, which was asked for in the type `kind`, really has."""
    row, tensors = FORMATS[kind].row, read_table(path)
    types = Counter(tensor.type for tensor in tensors)
    # Of one dimension are norms and biases, which all types keep in F32, as they do routers.
    fell_back = Counter(
        tensor.type
        for tensor in tensors
        if len(tensor.shape) > 1 and tensor.shape[0] % row and tensor.type != "F32"
    )
    bits = 8 * sum(tensor.bytes for tensor in tensors) / sum(tensor.weights for tensor in tensors)
    return Tensors(dict(types.most_common()), dict(fell_back.most_common()), bits, row)


@dataclass(frozen=True)
class Rounding:
    """What became of weights on their way into a file.

    Attributes:
        problems: What rounding does not explain.
        error: Mean over the matrices of |q - w|^2 / |w|^2.
    """

    problems: tuple[str, ...]
    error: float


def check_rounding(exact: Path, path: Path, poll: Callable[[], None]) -> Rounding:
    """Compare a file's weights with those that they were rounded from.

    Args:
        exact: The F16 or F32 file of the same model.
        path: The file.
        poll: Function that is called before each tensor; it may raise to stop.
    """
    sources = {tensor.name: tensor for tensor in read_table(exact)}
    found = {tensor.name: tensor for tensor in read_table(path)}
    odd = sorted(set(sources) ^ set(found))
    if odd:
        return Rounding(
            (f"its tensors are others than those of {exact.name}, {odd[0]} for one",), 0.0
        )
    wrong, errors = [], []
    for name, tensor in found.items():
        poll()
        reason, error = _compare(_sample(exact, sources[name]), _sample(path, tensor), tensor.type)
        wrong += [f"{name} ({reason})"] if reason else []
        errors += [error] if len(tensor.shape) > 1 else []
    mean = sum(errors) / max(1, len(errors))
    if not wrong:
        return Rounding((), mean)
    more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
    return Rounding((f"rounding does not explain the weights of {wrong[0]}{more}",), mean)


def _compare(exact: np.ndarray, rounded: np.ndarray, kind: str) -> tuple[str, float]:
    """Return how weights differ from what rounding to the type `kind` makes of others, if they do; and |q - w|^2 / |w|^2."""
    if exact.shape != rounded.shape:
        return f"of the shape {rounded.shape}, not {exact.shape}", 0.0
    norm = float(np.vdot(exact, exact))
    if norm == 0.0:
        return ("not zero" if rounded.any() else ""), 0.0
    factor = float(np.vdot(exact, rounded)) / norm
    rest = float(np.linalg.norm(rounded - factor * exact)) / norm**0.5
    error = rest**2 + (factor - 1.0) ** 2
    most_off, most_lost = _LOSSES.get(kind, _COARSE)
    if not abs(factor - 1.0) <= most_off:
        return f"{factor:.3g} times as large", error
    return ("" if rest <= most_lost else f"{rest:.2g} of their norm differs"), error


def _sample(path: Path, tensor: Tensor) -> np.ndarray:
    """Return float32 weights of rows that lie evenly in a tensor of the file."""
    from gguf import GGMLQuantizationType, dequantize

    count = tensor.weights // tensor.shape[0]
    rows = np.memmap(path, np.uint8, "r", tensor.start, (count, tensor.bytes // count))
    wanted = max(1, _SAMPLE // tensor.shape[0])
    chosen = np.array(rows[:: -(-count // wanted)])
    plain = {"F32": np.float32, "F16": np.float16}.get(tensor.type)
    if plain is not None:
        return chosen.view(plain).astype(np.float32)
    return np.asarray(dequantize(chosen, GGMLQuantizationType[tensor.type]), np.float32)
