"""From the records to the tables, the JSON and the figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gdpo.settings import TrainSettings

from . import claims
from .arms import ABLATED, ARMS, EVERYWHERE, MAIN, PATIENT
from .measures import compare, converged_at, describe, kaplan_meier, progress, targets
from .tasks import TASKS

Records = Sequence[dict[str, Any]]
# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = {
    "group_dpo": "#D55E00",
    "grpo": "#E69F00",
    "gdpo_decoupled": "#56B4E9",
    "saturation_aware": "#CC79A7",
    "gdpo": "#009E73",
}


def report(records: dict[str, dict[str, Any]], folder: Path, settings: TrainSettings) -> str:
    """Write convergence.json, .png and .md into `folder`; return the tables as text."""
    found = list(records.values())
    ideals = {task.name: task.ideal_values() for task in TASKS.values()}
    noise = _noise([r for r in found if r["arm"] == "frozen"])
    runs = [r for r in found if r["arm"] in ARMS]
    usual = [r for r in runs if not TASKS[r["task"]].rare]

    def arms(chosen: Records) -> dict[str, Any]:
        by_arm = {a: [r for r in chosen if r["arm"] == a] for a in ARMS}
        return {a: describe(rs, ideals, noise) for a, rs in by_arm.items() if rs}

    tasks = sorted({r["task"] for r in usual})
    wants = sorted({r["preference"] for r in usual})
    result = {
        "settings": _settings(settings),
        "noise_per_evaluation": noise,
        "arms": arms([r for r in usual if r["arm"] in MAIN]),
        "tasks": {
            t: arms([r for r in usual if r["task"] == t and r["arm"] in MAIN]) for t in tasks
        },
        "preferences": {
            p: arms([r for r in usual if r["preference"] == p and r["arm"] in MAIN]) for p in wants
        },
        "everywhere": arms([r for r in usual if r["arm"] in EVERYWHERE]),
        "ablations": arms([r for r in usual if r["task"] == ABLATED]),
        "patient": arms([r for r in usual if r["arm"] in PATIENT]),
        "rare": arms([r for r in runs if TASKS[r["task"]].rare]),
        "against": _against(usual, ideals, noise),
        "ceilings": _ceilings([r for r in found if r["arm"].startswith("only ")], ideals),
    }
    result["claims"] = claims.claims(usual, ideals, noise, result["against"])
    text = json.dumps(result, indent=1)
    (folder / "convergence.json").write_text(text + "\n", encoding="utf-8")
    figure(usual, ideals, folder / "convergence.png")
    page = _page(result)
    (folder / "convergence.md").write_text(page, encoding="utf-8")
    return page


def _page(result: dict[str, Any]) -> str:
    """Return all tables, as Markdown."""
    sections = [("All tasks and preferences", result["arms"])]
    sections += [(f"Preferences: {name}", arms) for name, arms in result["preferences"].items()]
    sections += [(f"Task {name}", arms) for name, arms in result["tasks"].items()]
    sections += [("The best of the others, all tasks", result["everywhere"])]
    sections += [(f"One part exchanged, and other methods ({ABLATED})", result["ablations"])]
    sections += [("Ten rewards (support10), three times the steps", result["patient"])]
    sections += [("Right answers are rare (rare5)", result["rare"])]
    parts = ["# Results of `python run.py bench convergence`"]
    parts += [f"## {title}\n\n{table(arms)}" for title, arms in sections if arms]
    parts.append("## gdpo against each, run by run\n\n" + _pairs_table(result["against"]))
    parts.append("## The article's claims\n\n" + claims.table(result["claims"]))
    alone = [
        f"- {task}: {', '.join(f'{name} {share:.2f}' for name, share in rewards.items())}"
        for task, rewards in result["ceilings"].items()
    ]
    title = "## Each reward trained alone: share of its way\n\n"
    parts.append(title + ("\n".join(alone) or "Not measured yet."))
    return "\n\n".join(parts) + "\n"


def _pairs_table(against: dict[str, Any]) -> str:
    lines = [
        "| against | pairs | only gdpo converged | only the other | steps | oscillation |",
        "|" + " --- |" * 6,
    ]
    for name, a in against.items():
        ratios = [
            f"{r[0]:.2f}x ({r[1]:.2f}–{r[2]:.2f})"
            for r in (a["steps_ratio"], a["oscillation_ratio"])
        ]
        lines.append(
            f"| {name} | {a['pairs']} | {a['only_first']} | {a['only_second']} | {ratios[0]} | {ratios[1]} |"
        )
    return "\n".join(lines)


def _against(records: Records, ideals: dict[str, list[float]], noise: float) -> dict[str, Any]:
    """`gdpo` and each other method on the cases that both have run."""
    cases = {(r["arm"], r["task"], r["preference"], r["seed"]): r for r in records}
    found = {}
    for arm in EVERYWHERE:
        pairs = [
            (ours, cases[(arm, *case)])
            for (name, *case), ours in cases.items()
            if name == "gdpo" and arm != "gdpo" and (arm, *case) in cases
        ]
        if pairs:
            found[arm] = compare([a for a, _ in pairs], [b for _, b in pairs], ideals, noise)
    return found


def table(arms: dict[str, Any]) -> str:
    """Return a Markdown table, one line an arm."""
    head = "| arm | runs | converged (95 % interval) | median steps | oscillation (sampling error, at most) | a reward below its start | worst reward | hypervolume | length std |"
    lines = [head, "|" + " --- |" * 9]
    for name, a in arms.items():
        low, high = (100 * x for x in a["interval"])
        steps = a["median_steps"] if a["median_steps"] is not None else "–"
        lines.append(
            f"| {name} | {a['runs']} | {100 * a['converged']:.0f} % ({low:.0f}–{high:.0f}) | {steps} | "
            f"{a['oscillation']:.2f} ({a['sampling_path']:.2f}) | {100 * a['below_start']:.0f} % | {a['worst_reward']:.2f} | "
            f"{a['hypervolume']:.2f} | {a['length_std']:.1f} |"
        )
    return "\n".join(lines)


def figure(records: Records, ideals: dict[str, list[float]], path: Path) -> None:
    """Draw the share of converged runs over the steps (Kaplan and Meier), one panel for each preference."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wants = sorted({r["preference"] for r in records})
    canvas = Figure(figsize=(5 * len(wants), 3.6), layout="constrained")
    axes = canvas.subplots(1, len(wants), sharey=True, squeeze=False)[0]
    for axis, preference in zip(axes, wants, strict=True):
        for arm, colour in _COLOURS.items():
            chosen = [r for r in records if r["arm"] == arm and r["preference"] == preference]
            if chosen:
                steps, share = zip(*_reached(chosen, ideals), strict=True)
                axis.step(
                    steps, share, where="post", color=colour, label=f"{arm} ({len(chosen)} runs)"
                )
        axis.set(title=f"preferences: {preference}", xlabel="optimiser steps", ylim=(-0.02, 1.02))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of runs in which every\nreward has reached its target")
    axes[0].legend(loc="upper left", fontsize="small")
    FigureCanvasAgg(canvas).print_png(str(path))


def _reached(records: Records, ideals: dict[str, list[float]]) -> list[tuple[int, float]]:
    times = [
        converged_at(r["steps"], r["means"], targets(r["means"][0], ideals[r["task"]]))
        for r in records
    ]
    limit = max(r["steps"][-1] for r in records)
    return [(step, 1 - alive) for step, alive in kaplan_meier(times, limit)]


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
        ideal = ideals[r["task"]][TASKS[r["task"]].measures.index(name)]
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
