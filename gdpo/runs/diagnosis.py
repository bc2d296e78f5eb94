"""What a run's history says in plain words: what looks wrong, and what to change.

Each check looks at the last few records only, so that a message disappears once its cause is gone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence

from .finding import Finding, at_target, mean_of
from .record import HeldoutFigures, StepRecord
from .shape import Number
from .step_findings import noise, size_setting, too_far

# Steps that are looked at together: one step is noise.
_WINDOW = 5
_TRUNCATED = 0.8  # share of completions
_DEAD = 0.8  # share of groups
_ALIKE = 0.95  # cosine of two rewards' gradients
_ENTROPY_LEFT = 0.2  # of the entropy at the start
_LENGTH_LEFT = 0.25  # of the length at the start
_EXPLODED = 10.0  # times the median gradient norm
_FAR = 2.0  # nats per token away from the base
_STANDARD_ERRORS = 2.0


def diagnose(history: Sequence[StepRecord]) -> list[Finding]:
    """Return what looks wrong at the end of `history` (records as `read_history` gives them); often nothing."""
    steps = [record for record in history if "rewards" in record]
    if len(steps) < _WINDOW:
        return []
    checks: tuple[Callable[..., Iterable[Finding]], ...] = (
        _truncation,
        _dead_rewards,
        _alike,
        _collapse,
        _explosion,
        _distance,
        noise,
        too_far,
    )
    found = [finding for check in checks for finding in check(steps)]
    return [*found, *_not_transferring(history)]


def telling_cosines(record: StepRecord) -> list[list[Number]] | None:
    """Return the cosines of a record, None between rewards of which one is at its target; None where that leaves nothing.

    What is left of such a reward's gradient is noise. Freed of what each sample contributes to itself, products of
    noise make an indefinite matrix, and the nearest Gramian has about one direction: cosines of -1 and 1.
    """
    rows, deficits = record.get("cosines"), record.get("deficits")
    if rows is None or deficits is None or len(rows) != len(deficits):
        return rows
    settled = [at_target(deficit) for deficit in deficits.values()]
    if settled.count(False) < 2 <= len(rows):
        return None
    return [
        [None if i != j and (settled[i] or settled[j]) else cell for j, cell in enumerate(row)]
        for i, row in enumerate(rows)
    ]


def _truncation(steps: Sequence[StepRecord]) -> Iterator[Finding]:
    if (share := mean_of(steps[-_WINDOW:], "truncated") or 0.0) >= _TRUNCATED:
        yield Finding(
            "truncated",
            f"{share:.0%} of the completions are cut off by the token limit, so their endings are never "
            "rewarded: raise max_new_tokens, or reward shorter answers.",
        )


def _dead_rewards(steps: Sequence[StepRecord]) -> Iterator[Finding]:
    last = steps[-_WINDOW:]
    for name in last[-1].get("rewards", {}):
        dead = mean_of(last, "rewards", name, "dead_groups")
        mean = mean_of(last, "rewards", name, "mean")
        deficit = mean_of(last, "deficits", name)
        if mean_of(steps, "rewards", name, "mean") is None:
            told = f"Reward {name!r} has scored no completion so far: see that the prompts have what it looks for."
            yield Finding("unscored", told, (name,))
        if dead is None or dead < _DEAD or at_target(deficit):
            continue  # a reward at its target may well be constant
        yield Finding(
            "dead",
            f"Reward {name!r} is the same for all completions in {dead:.0%} of the groups (mean "
            f"{'-' if mean is None else f'{mean:.2f}'}), so it teaches nothing there: give partial credit, raise "
            "group_size or temperature, or use easier prompts.",
            (name,),
        )


def _alike(steps: Sequence[StepRecord]) -> Iterator[Finding]:
    last = steps[-_WINDOW:]
    names = list(last[-1].get("rewards", {}))
    maps = [rows for rows in map(telling_cosines, last) if rows]
    for i, one in enumerate(names):
        for j, other in enumerate(names[:i]):
            cosine = statistics.fmean(rows[i][j] or 0.0 for rows in maps) if maps else 0.0
            if cosine >= _ALIKE:
                yield Finding(
                    "alike",
                    f"Rewards {other!r} and {one!r} pull the same way (cosine {cosine:.2f}) and count "
                    "double: drop one, or lower its preference.",
                    (other, one),
                )


def _collapse(steps: Sequence[StepRecord]) -> Iterator[Finding]:
    first, last = steps[:_WINDOW], steps[-_WINDOW:]
    before, now = mean_of(first, "entropy"), mean_of(last, "entropy")
    if before and now is not None and now < _ENTROPY_LEFT * before:
        yield Finding(
            "entropy",
            f"The entropy fell from {before:.2f} to {now:.2f} nats per token: the model says nearly the same each "
            f"time and cannot explore. Lower {size_setting(steps)}, raise the temperature or set kl_coeff.",
        )
    before, now = mean_of(first, "length", "mean"), mean_of(last, "length", "mean")
    if before and now is not None and now < _LENGTH_LEFT * before:
        yield Finding(
            "length",
            f"Completions shrank from {before:.0f} to {now:.0f} tokens: a reward pays for saying little. Set a "
            "shortest length, or gate it behind a reward for the content.",
        )


def _explosion(steps: Sequence[StepRecord]) -> Iterator[Finding]:
    norms = [norm for step in steps if (norm := step.get("grad_norm")) is not None]
    if (
        len(norms) <= _WINDOW or "step_kl" in steps[-1]
    ):  # whose length does not follow the gradient's
        return
    usual, now = statistics.median(norms[:-_WINDOW]), statistics.median(norms[-_WINDOW:])
    if usual > 0 and now > _EXPLODED * usual:
        yield Finding(
            "gradient",
            f"The gradient is {now / usual:.0f} times as long as usual ({now:.2g}): lower learning_rate or max_grad_norm.",
        )


def _distance(steps: Sequence[StepRecord]) -> Iterator[Finding]:
    kl = mean_of(steps[-_WINDOW:], "kl")
    if kl is not None and kl > _FAR:
        yield Finding(
            "distance",
            f"The model is far from its base ({kl:.1f} nats per token), where language gets worse: stop "
            f"earlier, lower {size_setting(steps)} or set kl_coeff.",
        )


def _not_transferring(history: Sequence[StepRecord]) -> Iterator[Finding]:
    """Yield a reward that rises in training while it falls on held-out prompts."""
    evaluated = [(i, r["eval"]["rewards"]) for i, r in enumerate(history) if "eval" in r]
    if len(evaluated) < 2:
        return
    (start, before), (end, after) = evaluated[-2:]
    between = [record for record in history[start : end + 1] if "rewards" in record]
    half = len(between) // 2
    for name, now in after.items():
        first = mean_of(between[:half], "rewards", name, "mean")
        second = mean_of(between[half:], "rewards", name, "mean")
        fall = _certain_fall(before[name], now)
        if first is None or second is None or second <= first or fall is None:
            continue
        yield Finding(
            "held-out",
            f"Reward {name!r} rises in training but fell on held-out prompts ({fall[0]:.2f} to "
            f"{fall[1]:.2f}): it is learned by heart or gamed. Use more prompts, and read the completions.",
            (name,),
        )


def _certain_fall(then: HeldoutFigures, now: HeldoutFigures) -> tuple[float, float] | None:
    """Return the mean before and after, where it fell by more than two standard errors of the difference."""
    before, after = then["mean"], now["mean"]
    error, later_error = then["standard_error"], now["standard_error"]
    if before is None or after is None or error is None or later_error is None:
        return None
    fell = after < before - _STANDARD_ERRORS * (error**2 + later_error**2) ** 0.5
    return (before, after) if fell else None
