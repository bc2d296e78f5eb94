"""The claims of the article that this project follows, each beside what the records say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .measures import describe, end
from .natural_arms import LEADING
from .tasks import TASKS

Records = Sequence[dict[str, Any]]
OURS, THEIRS = LEADING, "group_dpo"
# The support assistant of the article: accuracy, politeness, brevity.
_ASSISTANT = "support3"


def claims(
    records: Records, ideals: dict[str, list[float]], noise: float, against: dict[str, Any]
) -> list[dict[str, str]]:
    """Return rows of `claim` and `found`; empty while an arm has no runs.

    Args:
        records: Records of the usual tasks.
        ideals: Rewards of the ideal replies, for each task.
        noise: Mean path per step of a frozen policy.
        against: The leading arm against each other one, run by run.
    """
    chosen = {a: [r for r in records if r["arm"] == a] for a in (OURS, THEIRS)}
    if THEIRS not in against or not all(chosen.values()):
        return []
    pairs = against[THEIRS]
    rows = [
        ("five rewards: 82 % of the runs converge instead of 45 %", _converged(chosen, ideals, 5)),
        ("in 7 h instead of 12: 0.58 times", _ratio(pairs["steps_ratio"]) + " the steps"),
        ("oscillation -70 %", _change(_measured(chosen, ideals, noise, "oscillation"))),
        (
            "with more rewards it does not get worse",
            "; ".join(f"{k} rewards: {_converged(chosen, ideals, k)}" for k in _counts(records)),
        ),
    ]
    own = {a: [r for r in rs if r["task"] == _ASSISTANT] for a, rs in chosen.items()}
    if all(own.values()):
        spread = _measured(own, ideals, noise, "length_std")
        rows += [
            ("support assistant: accuracy +20 %", _change(_accuracy(own))),
            ("support assistant: spread of lengths -35 %", _change(spread)),
        ]
    return [{"claim": claim, "found": found} for claim, found in rows]


def _measured(
    chosen: dict[str, list[dict[str, Any]]],
    ideals: dict[str, list[float]],
    noise: float,
    measure: str,
) -> dict[str, float]:
    """Return one measure of `describe` for each arm."""
    return {arm: describe(records, ideals, noise)[measure] for arm, records in chosen.items()}


def _counts(records: Records) -> list[int]:
    return sorted({len(TASKS[r["task"]].measures) for r in records})


def _converged(
    chosen: dict[str, list[dict[str, Any]]], ideals: dict[str, list[float]], count: int
) -> str:
    shares = []
    for arm in (OURS, THEIRS):
        runs = [r for r in chosen[arm] if len(TASKS[r["task"]].measures) == count]
        shares.append(f"{100 * describe(runs, ideals, 0.0)['converged']:.0f} %" if runs else "–")
    return f"{shares[0]} instead of {shares[1]}"


def _accuracy(own: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    place = TASKS[_ASSISTANT].measures.index("accuracy")
    return {a: sum(end(r["means"])[place] for r in rs) / len(rs) for a, rs in own.items()}


def _change(values: dict[str, float]) -> str:
    ours, theirs = values[OURS], values[THEIRS]
    change = f" ({100 * (ours / theirs - 1):+.0f} %)" if theirs else ""
    return f"{ours:.2f} instead of {theirs:.2f}{change}"


def _ratio(values: Sequence[float]) -> str:
    return f"{values[0]:.2f} times ({values[1]:.2f} to {values[2]:.2f})"


def table(rows: Sequence[dict[str, str]]) -> str:
    """Markdown, one line a claim."""
    lines = [f"| {row['claim']} | {row['found']} |" for row in rows]
    return "\n".join([
        f"| the article, `{OURS}` against `{THEIRS}` | found |",
        "| --- | --- |",
        *lines,
    ])
