"""Draws the share of converged runs over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .measures import converged_at, kaplan_meier, targets
from .natural_arms import LEADING

Records = Sequence[dict[str, Any]]
# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = {
    "group_dpo": "#D55E00",
    "grpo": "#E69F00",
    "gdpo_decoupled": "#56B4E9",
    "saturation_aware": "#CC79A7",
    "gdpo": "#009E73",
    LEADING: "#000000",
}


def figure(records: Records, ideals: dict[str, list[float]], path: Path) -> None:
    """Draw the share of converged runs over the steps (Kaplan and Meier), one panel for each preference."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wants = sorted({r["preference"] for r in records})
    canvas = Figure(figsize=(5 * len(wants), 4.1), layout="constrained")
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
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    FigureCanvasAgg(canvas).print_png(str(path))


def _reached(records: Records, ideals: dict[str, list[float]]) -> list[tuple[int, float]]:
    times = [
        converged_at(r["steps"], r["means"], targets(r["means"][0], ideals[r["task"]]))
        for r in records
    ]
    limit = max(r["steps"][-1] for r in records)
    return [(step, 1 - alive) for step, alive in kaplan_meier(times, limit)]
