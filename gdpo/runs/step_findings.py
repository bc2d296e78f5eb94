"""What looks wrong about the steps themselves: how far they go, and whether they still go anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .finding import Finding, at_target, mean_of
from .record import StepRecord

# Steps that are looked at together: a reward's share of signal swings more than its mean.
_WINDOW = 10
_NOISE = 0.05  # share of a reward's direction that held for prompts that were left out
_SHORTENED = 3  # steps of a window


def size_setting(steps: Sequence[StepRecord]) -> str:
    """Return the name of the setting that says how long the run's steps are."""
    return "step_size" if "step_kl" in steps[-1] else "learning_rate"


def noise(steps: Sequence[StepRecord]) -> Iterator[Finding]:
    """Yield that no reward on its way to its target has a direction any more that is not chance."""
    last = [step for step in steps[-_WINDOW:] if "signals" in step]
    if len(last) < _WINDOW:
        return
    shares = [
        mean_of(last, "signals", name)
        for name in last[-1].get("signals", {})
        if not at_target(mean_of(last, "deficits", name))
    ]
    known = [share for share in shares if share is not None]
    if known and max(known) < _NOISE:
        yield Finding(
            "noise",
            "The steps are all noise now: no reward's direction holds for prompts that were left out. Stop here, or "
            "raise group_size or prompts_per_step.",
        )


def too_far(steps: Sequence[StepRecord]) -> Iterator[Finding]:
    """Yield that steps are often much longer than the settings allow."""
    last = steps[-_WINDOW:]
    count = sum(step.get("step_shortened", False) for step in last)
    if count >= _SHORTENED:
        yield Finding(
            "step-far",
            f"In {count} of the last {len(last)} steps the model changed more than three times as far as step_size "
            "allows, and the step was taken back in part: lower step_size.",
        )
