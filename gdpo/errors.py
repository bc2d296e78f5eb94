"""What can go wrong while the pack runs, one class per boundary that was crossed.

GDPOError
├── PromptError      a prompt file or one of its rows
├── PolicyError      a model folder, its tokenizer, its precision or its adapter
├── RewardError      a reward's definition, or a reward that failed on a completion
├── MethodError      how rewards are combined: method, weighting, preferences, gates
├── TrainingError    the training loop, its settings, run folder or checkpoints
│   └── PreflightError   several things that stand in the way of a training, of any of these kinds
├── ExportError      merging, converting, quantising or verifying a GGUF
├── InferenceError   running a GGUF
└── WorkflowError    a workflow file or a node's input

Every message is one line: what was wrong, the value found, the remedy. Where several things were found together
there is a line for each. Nothing is scored, skipped or replaced by a default because it failed.
"""

from __future__ import annotations

from collections.abc import Sequence

from .printable import printable

# What a model of another's code raises that cannot do what it is asked; some families assert.
MODEL_REFUSALS = (
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    AssertionError,
)


class GDPOError(Exception):
    """Base of everything the pack raises on purpose; its message can be printed, whoever's text is in it."""

    def __init__(self, message: str = "") -> None:
        """Make the message printable, and one line of it."""
        super().__init__(printable(message))


class PromptError(GDPOError):
    """A prompt file, or one of its rows, cannot be used."""


class PolicyError(GDPOError):
    """A model folder, tokenizer, precision or adapter cannot be used."""


class RewardError(GDPOError):
    """A reward is defined wrongly, or failed on a completion."""


class MethodError(GDPOError):
    """Rewards cannot be combined as asked."""


class TrainingError(GDPOError):
    """Training cannot start, go on or be resumed."""


class PreflightError(TrainingError):
    """Several things stand in the way of a training; the message has a line for each.

    Attributes:
        found: What they are, each an error of its own kind.
    """

    def __init__(self, message: str = "", found: Sequence[GDPOError] = ()) -> None:
        """Make the message printable."""
        Exception.__init__(self, printable(message, lines=True))
        self.found = tuple(found)


class ExportError(GDPOError):
    """A GGUF could not be written, or does not hold what was trained."""


class InferenceError(GDPOError):
    """A GGUF could not be run."""


class WorkflowError(GDPOError):
    """A workflow file, or a node's input, is not valid; there may be a line for each problem."""

    def __init__(self, message: str = "") -> None:
        """Make the message printable."""
        Exception.__init__(self, printable(message, lines=True))


def joined(errors: Sequence[GDPOError]) -> GDPOError:
    """Return one error for all that was found: the error itself where there is one, else a line for each.

    Args:
        errors: One or more; what was joined before is taken apart again.
    """
    found = [one for error in errors for one in getattr(error, "found", ()) or [error]]
    if len(found) == 1:
        return found[0]
    lines = [f"{len(found)} things stand in the way of the training, which has not begun:"]
    return PreflightError("\n".join([*lines, *(f"- {error}" for error in found)]), found)


def shorten(value: object, limit: int = 80) -> str:
    """The `repr` of `value` on one line, cut to `limit` characters, for use in messages."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or nested too deeply
        text = f"<{type(value).__name__} too large to show>"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
