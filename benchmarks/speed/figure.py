"""The figure of the speed benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[dict[str, Any]]
# Okabe and Ito's colours, which colour-blind readers can tell apart; shapes and dashes tell them apart as well.
ENGINES = {
    "gdpo": ("#009E73", "o", "-"),
    "generate": ("#000000", "s", "--"),
    "llama.cpp": ("#D55E00", "^", "-."),
    "continuous batching": ("#0072B2", "D", ":"),
}
WAYS = {"chunks": ("#009E73", "o", "-"), "all logits": ("#000000", "s", "--")}
FACTORS = {"G": ("#009E73", "o"), "K": ("#D55E00", "^"), "T": ("#0072B2", "D")}
SHARES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#999999")


def figure(result: dict[str, Any], path: Path) -> None:
    """Write sampling, memory, growth and shares as one PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(12.5, 7.2), layout="constrained")
    axes = canvas.subplots(2, 3).flat
    rollout = result.get("rollout") or []
    starter = [row for row in rollout if row["model"] == "starter"]
    lengths = {row["new_tokens"] for row in starter}
    usual = min(lengths, default=0)
    _speeds(axes[0], [r for r in starter if r["new_tokens"] == usual], "batch", legend=True)
    axes[0].set_title(f"sampling: starter (4 M), {usual} tokens")
    others = [row for row in rollout if row["model"] != "starter"]
    _speeds(axes[1], others, "batch", legend=False)
    names = ", ".join(sorted({row["model"] for row in others})) or "larger models"
    axes[1].set_title(f"sampling: {names}, random weights")
    long = [r for r in starter if r["batch"] == 32 and len(lengths) > 1]
    _speeds(axes[2], long, "new_tokens", legend=False)
    axes[2].set_title("sampling: starter (4 M), batch 32")
    _peaks(axes[3], result.get("memory") or [])
    _growth(axes[4], result.get("growth") or {"rows": [], "base": {}})
    _shares(axes[5], result)
    FigureCanvasAgg(canvas).print_png(str(path))


def _speeds(axis: Any, rows: Rows, key: str, *, legend: bool) -> None:
    """Draw the tokens per second of each engine over the batch or the length."""
    for engine, (colour, marker, line) in ENGINES.items():
        points = sorted((r[key], r["tokens_per_s"]) for r in rows if r["engine"] == engine)
        if points:
            style = {"color": colour, "marker": marker, "linestyle": line}
            axis.plot(*zip(*points, strict=True), label=engine, **style)
    axis.set(xlabel=key.replace("_", " "), ylabel="tokens per second")
    _logarithmic(axis, sorted({row[key] for row in rows}))
    _finish(axis, rows, legend=legend)


def _peaks(axis: Any, rows: Rows) -> None:
    """Draw the peak of an update over the size of all logits, a line for each T."""
    for way, (colour, marker, line) in WAYS.items():
        for number, tokens in enumerate(sorted({row["completion_tokens"] for row in rows})):
            chosen = [r for r in rows if (r["way"], r["completion_tokens"]) == (way, tokens)]
            points = sorted((row["all_logits_mb"], row["peak_mb"]) for row in chosen)
            style = {"color": colour, "marker": marker, "linestyle": line}
            label = None if number else way
            axis.plot([x for x, _ in points], [y for _, y in points], label=label, **style)
    axis.set(title="update: peak memory, a line for each T")
    axis.set(xlabel="all logits in fp32, MB", ylabel="peak above the loaded model, MB")
    _finish(axis, rows)


def _growth(axis: Any, found: dict[str, Any]) -> None:
    """Draw the seconds of sampling and updating over each factor, both relative to the base point."""
    for factor, (colour, marker) in FACTORS.items():
        rows = [row for row in found["rows"] if row["factor"] == factor]
        base = next((r for r in rows if r["value"] == found["base"][factor]), None)
        if base is None:
            continue
        for part, line in (("sampling_s", "-"), ("updating_s", "--")):
            x = [row["value"] / base["value"] for row in rows]
            y = [row[part] / base[part] for row in rows]
            style = {"color": colour, "marker": marker, "linestyle": line}
            axis.plot(x, y, label=f"{factor}: {part[:-2]}", **style)
    axis.set(title="growth with G, K and T")
    axis.set(xlabel="factor / its base", ylabel="seconds / those of the base")
    _logarithmic(axis, (0.5, 1, 2, 4) if found["rows"] else ())
    _finish(axis, found["rows"])


def _shares(axis: Any, result: dict[str, Any]) -> None:
    """Shares of the phases, and the whole step beside TRL's."""
    axis.set_title("share of each phase in the demo's step")
    phases = result.get("phases")
    if not phases:
        _finish(axis, [])
        return
    names, shares = list(phases["shares"]), [100 * s for s in phases["shares"].values()]
    bars = axis.barh(names, shares, color=SHARES[: len(names)])
    axis.bar_label(bars, fmt="%.1f %%", padding=3)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.2 * max(shares)), xlabel=f"% of {phases['step_seconds']:.2f} s")


def _logarithmic(axis: Any, values: Sequence[float]) -> None:
    """Both axes logarithmic with plain numbers, those of x at `values`."""
    from matplotlib.ticker import LogLocator

    axis.set(xscale="log", yscale="log")
    axis.set_xticks(values, labels=[f"{value:g}" for value in values])
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()


def _finish(axis: Any, rows: Rows, *, legend: bool = True) -> None:
    axis.grid(alpha=0.3)
    if rows and legend:
        axis.legend(fontsize="small")
    elif not rows:
        axis.text(0.5, 0.5, "not measured", ha="center", transform=axis.transAxes)
