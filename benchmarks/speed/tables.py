"""Writes the result of the speed benchmark as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.speed.slopes import PARTS, Rows, bytes_per_logit


def page(result: dict[str, Any]) -> str:
    """Write all tables as Markdown."""
    makers = {
        "Sampling: tokens per second, and ratio to `generate`": ("rollout", rollout_table),
        "A whole step against TRL's GRPOTrainer": ("step", step_table),
        "Update: log-probabilities in chunks against all logits at once": ("memory", memory_table),
        "Growth of a step's parts": ("growth", growth_table),
        "Shares of the demo's step": ("phases", phases_table),
        "CUDA card": ("cards", cards_table),
    }
    parts = ["# Results of `python run.py bench speed`", f"Machine: {result['machine']}."]
    parts += [
        f"## {title}\n\n{table(result[key])}"
        for title, (key, table) in makers.items()
        if result.get(key)
    ]
    missing = [
        f"- {what}: {reason}"
        for part in result.get("not_measured", {}).values()
        for what, reason in part.items()
    ]
    parts.append("## Not measured\n\n" + ("\n".join(missing) or "Nothing was left out."))
    return "\n\n".join(parts) + "\n"


def rollout_table(rows: Rows) -> str:
    """Make one line for each model, length and batch; one column for each engine."""
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    cells = {(*_place(row), row["engine"]): row for row in rows}

    def cell(place: tuple[object, ...], engine: str) -> str:
        row = cells.get((*place, engine))
        return f"{row['tokens_per_s']:.0f} ({row['ratio_to_generate']:.2f}x)" if row else "–"

    places = dict.fromkeys(_place(row) for row in rows)
    lines = [[*map(str, place), *(cell(place, engine) for engine in engines)] for place in places]
    return markdown(("model", "new tokens", "batch", *engines), lines)


def _place(row: dict[str, Any]) -> tuple[object, ...]:
    return row["model"], row["new_tokens"], row["batch"]


def step_table(rows: Rows) -> str:
    """Make one line for each size and each of our methods."""
    head = (
        "completions x longest, in the update",
        "method",
        "time, share of TRL's",
        "memory, share of TRL's",
        "s a step",
        "TRL's",
        "update",
    )
    lines = [
        [
            row["size"],
            row["method"],
            f"{row['time_ratio_to_trl']:.2f}",
            f"{row['memory_ratio_to_trl']:.2f}",
            f"{row['step_seconds']:.2f}",
            f"{row['trl_step_seconds']:.2f}",
            f"{row['share_of_update']:.0%}",
        ]
        for row in rows
    ]
    return markdown(head, lines)


def memory_table(rows: Rows) -> str:
    """Make one line for each T and V, and say what a further logit costs."""
    cells = {(r["completion_tokens"], r["vocabulary"], r["way"]): r for r in rows}
    keys = dict.fromkeys((tokens, size) for tokens, size, _ in cells)
    lines = []
    for tokens, size in keys:
        ours, usual = (cells.get((tokens, size, way)) for way in ("chunks", "all logits"))
        shown = [_peak_and_time(row) for row in (ours, usual)]
        logits = (ours or usual or {})["all_logits_mb"]
        lines.append([str(tokens), str(size), f"{logits:.0f}", *shown])
    head = ("T", "V", "all logits, MB", "chunks: MB, s", "all logits at once: MB, s")
    slopes = [
        f"- {way}: " + ", ".join(f"T = {tokens}: {b:.1f}" for tokens, b in found.items())
        for way, found in bytes_per_logit(rows).items()
    ]
    text = "\n\nBytes of peak for each further logit, between the two largest vocabularies:\n\n"
    return markdown(head, lines) + (text + "\n".join(slopes) if slopes else "")


def _peak_and_time(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    seconds = row.get("update_seconds")
    return f"{row['peak_mb']:.0f}, " + (f"{seconds:.2f}" if seconds else "–")


def growth_table(found: dict[str, Any]) -> str:
    """Make one line for each point of each series, and the exponents."""
    lines = [
        [row["factor"], str(row["value"]), *(f"{1000 * row[part]:.1f}" for part in PARTS)]
        for row in found["rows"]
    ]
    base = ", ".join(f"{name} = {value}" for name, value in found["base"].items())
    lines += [
        [f"exponent of {factor}", "", *(f"{parts[part]:.2f}" for part in PARTS)]
        for factor, parts in found["exponents"].items()
    ]
    head = ("factor", "value", "sampling, ms", "scoring, ms", "updating, ms")
    return f"Base: {base}; exponent b: seconds ~ factor^b.\n\n" + markdown(head, lines)


def phases_table(found: dict[str, Any]) -> str:
    """Make the one line of the demo's step."""
    head = ("s a step", *found["shares"])
    line = [f"{found['step_seconds']:.2f}", *(f"{share:.1%}" for share in found["shares"].values())]
    return markdown(head, [line])


def cards_table(rows: Rows) -> str:
    """Make one line for each model and precision."""
    head = ("model", "precision", "tokens/s", "decoding", "share of bandwidth", "peak, MB", "fits")
    lines = [
        [
            row["model"],
            row["precision"],
            f"{row['tokens_per_s']:.0f}",
            f"{row['decode_tokens_per_s']:.0f}",
            f"{row['share_of_bandwidth']:.0%}",
            f"{row['peak_mb']}",
            ", ".join(card for card, fits in row["fits"].items() if fits) or "none",
        ]
        for row in rows
    ]
    return markdown(head, lines)


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))
