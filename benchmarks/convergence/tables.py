"""The tables, as Markdown."""

from __future__ import annotations

from typing import Any

from . import claims
from .arms import ABLATED
from .natural_arms import LEADING


def page(result: dict[str, Any]) -> str:
    """Return all tables, as Markdown."""
    sections = [("The leading arms, all tasks and preferences, eight seeds", result["leaders"])]
    sections += [("All tasks and preferences, four seeds", result["arms"])]
    sections += [(f"Preferences: {name}", arms) for name, arms in result["preferences"].items()]
    sections += [(f"Task {name}", arms) for name, arms in result["tasks"].items()]
    sections += [("The best of the others, all tasks", result["everywhere"])]
    for what, arms in result["ablations"].items():
        sections += [(f"One part exchanged ({ABLATED}): {what}", arms)]
    sections += [("Ten rewards (support10), three times the steps", result["patient"])]
    sections += [(f"Right answers are rare: {name}", arms) for name, arms in result["rare"].items()]
    sections += [("The bundled model (desk5)", result["desk"])]
    parts = ["# Results of `python run.py bench convergence`"]
    parts += [f"## {title}\n\n{table(arms)}" for title, arms in sections if arms]
    parts.append(f"## {LEADING} against each, run by run\n\n" + pairs_table(result["against"]))
    parts.append("## Seconds to convergence\n\n" + _seconds(result["seconds"]))
    parts.append(f"## Second draws of {LEADING}\n\n" + _again(result["again"]))
    parts.append("## The article's claims\n\n" + claims.table(result["claims"]))
    alone = [
        f"- {task}: {', '.join(f'{name} {share:.2f}' for name, share in rewards.items())}"
        for task, rewards in result["ceilings"].items()
    ]
    title = "## Each reward trained alone: share of its way\n\n"
    parts.append(title + ("\n".join(alone) or "Not measured yet."))
    return "\n\n".join(parts) + "\n"


def _seconds(found: dict[str, float]) -> str:
    lines = [f"- {arm}: {seconds:.1f} s" for arm, seconds in found.items()]
    return "\n".join(lines) or "Not measured yet."


def _again(found: dict[str, tuple[int, float]]) -> str:
    lines = [
        f"- {task}: {100 * share:.1f} % more completions ({count} runs)"
        for task, (count, share) in found.items()
    ]
    return "\n".join(lines) or "Not measured yet."


def pairs_table(against: dict[str, Any]) -> str:
    """Return a Markdown table of the leading arm against each other one."""
    lines = [
        f"| against | pairs | only {LEADING} converged | only the other | steps | oscillation |",
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
