"""From the records to the tables, the JSON and the figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gdpo.settings import TrainSettings

from . import claims
from .arms import ABLATED, ABLATIONS, ARMS, EVERYWHERE, LEADERS, MAIN, PATIENT
from .figure import figure
from .measures import describe, progress, steps_to_convergence
from .natural_arms import EXCHANGED, LEADING, NATURAL, ONE_DRAW
from .pairs import compare
from .runs import DESK, EVERY_TASK, MAIN_SEEDS
from .tables import page
from .tasks import TASKS

Records = Sequence[dict[str, Any]]


def report(records: dict[str, dict[str, Any]], folder: Path, settings: TrainSettings) -> str:
    """Write convergence.json, .png and .md into `folder`; return the tables as text."""
    found = list(records.values())
    ideals = {task.name: task.ideal_values() for task in EVERY_TASK.values()}
    noise = _noise([r for r in found if r["arm"] == "frozen"])
    runs = [r for r in found if r["arm"] in ARMS]
    usual = [r for r in runs if r["task"] != DESK.name and not TASKS[r["task"]].rare]
    first = [r for r in usual if r["seed"] in MAIN_SEEDS]  # those that all arms have
    leading = [r for r in usual if r["arm"] in LEADERS]

    result = {
        "settings": _settings(settings),
        "noise_per_evaluation": noise,
        **_tables(runs, leading, first, partial(_by_arm, ideals, noise)),
        "against": _against(usual, ideals, noise),
        "seconds": _seconds([r for r in leading if _is_timed(r)], ideals),
        "again": _again([r for r in runs if r["arm"] == LEADING]),
        "ceilings": _ceilings([r for r in found if r["arm"].startswith("only ")], ideals),
    }
    result["claims"] = claims.claims(first, ideals, noise, result["against"])
    text = json.dumps(result, indent=1)
    (folder / "convergence.json").write_text(text + "\n", encoding="utf-8")
    figure(first, ideals, folder / "convergence.png")
    text = page(result)
    (folder / "convergence.md").write_text(text, encoding="utf-8")
    return text


def _tables(
    runs: Records, leading: Records, first: Records, arms: Callable[[Records], dict[str, Any]]
) -> dict[str, Any]:
    """Return what `tables.page` shows, by `arms` from all runs, those of the leading arms, and those of the first seeds."""
    shared = [r for r in first if r["arm"] in (*MAIN, *NATURAL, "saturation_aware")]
    natural = [r for r in first if _is_of(r, (LEADING, ONE_DRAW, *EXCHANGED))]
    others = [r for r in first if _is_of(r, (*MAIN, *ABLATIONS))]
    rare = [r for r in runs if EVERY_TASK[r["task"]].rare]
    return {
        "leaders": arms(leading),
        "arms": arms(shared),
        "preferences": {p: arms(rs) for p, rs in _split(shared, "preference").items()},
        "tasks": {t: arms(rs) for t, rs in _split(shared, "task").items()},
        "everywhere": arms([r for r in first if r["arm"] in EVERYWHERE]),
        "ablations": {
            "the natural step": arms(natural),
            "AdamW's step, and other methods": arms(others),
        },
        "patient": arms([r for r in runs if r["arm"] in PATIENT]),
        "rare": {t: arms(rs) for t, rs in _split(rare, "task").items()},
        "desk": arms([r for r in runs if r["task"] == DESK.name]),
    }


def _by_arm(ideals: dict[str, list[float]], noise: float, chosen: Records) -> dict[str, Any]:
    found = {a: [r for r in chosen if r["arm"] == a] for a in ARMS}
    return {a: describe(rs, ideals, noise) for a, rs in found.items() if rs}


def _split(records: Records, key: str) -> dict[str, Records]:
    return {v: [r for r in records if r[key] == v] for v in sorted({r[key] for r in records})}


def _is_timed(record: dict[str, Any]) -> bool:
    """Tell whether a run was made side by side with its like; those of `LEADING` were made on another day."""
    return record["seed"] not in MAIN_SEEDS and record["arm"] != LEADING


def _again(records: Records) -> dict[str, tuple[int, float]]:
    """Return, by task, the runs that know how often they sampled again, and how many completions more they had."""
    known = _split([r for r in records if "sampled_again" in r], "task")
    return {t: (len(rs), sum(r["sampled_again"] for r in rs) / len(rs)) for t, rs in known.items()}


def _is_of(record: dict[str, Any], arms: Sequence[str]) -> bool:
    return record["task"] == ABLATED and record["arm"] in arms


def _against(records: Records, ideals: dict[str, list[float]], noise: float) -> dict[str, Any]:
    """`LEADING` and each other method on the cases that both have run."""
    cases = {(r["arm"], r["task"], r["preference"], r["seed"]): r for r in records}
    found = {}
    for arm in EVERYWHERE:
        pairs = [
            (ours, cases[(arm, *case)])
            for (name, *case), ours in cases.items()
            if name == LEADING and arm != LEADING and (arm, *case) in cases
        ]
        if pairs:
            found[arm] = compare([a for a, _ in pairs], [b for _, b in pairs], ideals, noise)
    return found


def _seconds(records: Records, ideals: dict[str, list[float]]) -> dict[str, float]:
    """Return each arm's mean seconds to convergence, evaluations among them, a run that never did counting whole.

    Only runs that were made side by side are compared.
    """
    found = {}
    for arm, rows in _split(records, "arm").items():
        spent = [r["seconds"] * steps_to_convergence(r, ideals) / r["steps"][-1] for r in rows]
        found[arm] = round(sum(spent) / len(spent), 2)
    return found


def _noise(frozen: Records) -> float:
    """Return the mean movement of a reward between two evaluations of a policy that does not change."""
    moves = [
        abs(b - a)
        for r in frozen
        for row, following in zip(r["means"], r["means"][1:], strict=False)
        for a, b in zip(row, following, strict=True)
    ]
    return round(sum(moves) / len(moves), 6) if moves else 0.0


def _ceilings(records: Records, ideals: dict[str, list[float]]) -> dict[str, Any]:
    """Tell where each reward gets when it is trained alone: share of the way to the ideal replies'."""
    found: dict[str, Any] = {}
    for r in records:
        name = r["names"][0]
        ideal = ideals[r["task"]][EVERY_TASK[r["task"]].measures.index(name)]
        found.setdefault(r["task"], {})[name] = round(progress(r["means"], [ideal])[0], 4)
    return found


def _settings(settings: TrainSettings) -> dict[str, Any]:
    names = (
        "steps",
        "prompts_per_step",
        "group_size",
        "max_new_tokens",
        "learning_rate",
        "lora_rank",
        "eval_every",
    )
    return {name: getattr(settings, name) for name in names}
