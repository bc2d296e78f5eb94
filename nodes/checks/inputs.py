"""How inputs are declared: short forms of ComfyUI's declarations, and settings turned into widgets."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...gdpo.rewards import Option

Input = tuple[object, dict[str, object]]

_MAX_INT = 2**53 - 1  # beyond this the page's numbers are no longer exact


def socket(kind: str, tooltip: str) -> Input:
    """Return an input that only takes a link."""
    return (kind, {"tooltip": tooltip})


def choice(choices: Sequence[str], tooltip: str, default: str | None = None) -> Input:
    """Return a menu; the first choice is the default."""
    chosen = default if default is not None else choices[0]
    return (list(choices), {"default": chosen, "tooltip": tooltip})


def text(default: str, tooltip: str, *, multiline: bool = False, hint: str = "") -> Input:
    """Return a text; `hint` is shown where it is empty."""
    options: dict[str, object] = {"default": default, "multiline": multiline, "tooltip": tooltip}
    return ("STRING", {**options, "placeholder": hint} if hint else options)


def whole(
    default: int, tooltip: str, *, low: int = 0, high: int = _MAX_INT, step: int = 1
) -> Input:
    """Return a whole number from `low` to `high`."""
    return ("INT", {"default": default, "min": low, "max": high, "step": step, "tooltip": tooltip})


def real(
    default: float,
    tooltip: str,
    *,
    low: float,
    high: float,
    step: float | None = None,
) -> Input:
    """Return a finite number from `low` to `high`; the page shows as many digits as `step` has."""
    shown = step if step is not None else _fine_step(default)
    options = {"default": float(default), "min": float(low), "max": float(high), "step": shown}
    return ("FLOAT", {**options, "round": False, "tooltip": tooltip})


def _fine_step(default: float) -> float:
    """Return one digit below the default's first, and at most a hundredth."""
    digit = math.floor(math.log10(abs(default))) - 1 if default else -2
    return 10.0 ** min(digit, -2)


def advanced(one: Input) -> Input:
    """Return an input that the page hides until all of the node's are asked for."""
    kind, look = one
    return (kind, {**look, "advanced": True})


def widget(option: Option) -> Input:
    """Return the input for one documented setting of the library."""
    if option.choices is not None:
        return choice(option.choices, option.help, str(option.default))
    if option.type is bool:
        return ("BOOLEAN", {"default": option.default, "tooltip": option.help})
    if option.type is str:
        return text(str(option.default), option.help, multiline=option.multiline)
    low = option.minimum if option.minimum is not None else -1e9
    high = option.maximum if option.maximum is not None else 1e9
    if option.type is int:
        step = int(option.step or 1)
        return whole(int(option.default), option.help, low=int(low), high=int(high), step=step)
    return real(float(option.default), option.help, low=low, high=high, step=option.step)
