"""What `run.py` offers: run a workflow file, and run the demo. Returns what to print."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...gdpo.atomic import write_atomically
from ...gdpo.errors import WorkflowError
from ...gdpo.runs.history import HISTORY_FILE, read_history
from ...gdpo.to_json import to_json
from .. import NODE_CLASS_MAPPINGS as CLASSES, NODE_DISPLAY_NAME_MAPPINGS as NAMES
from ..checks.declared import Graph
from ..checks.paths import resolve_output, unused_name
from ..comfy.host import folders
from ..comfy.progress import TerminalProgress
from .workflow import Outcome, run_workflow
from .workflow_file import apply_settings, read_workflow

QUICK_START = Path(__file__).resolve().parents[2] / "workflows/quick_start.json"
DEMO_RUN = "quick-start"
SUMMARY = "summary.json"
_TRAINER = "GDPOTrain"


def run_file(path: Path, settings: Sequence[str]) -> str:
    """Run a workflow file with some inputs replaced, and give what its output nodes show."""
    graph = apply_settings(read_workflow(path), settings, CLASSES)
    outcomes = _run(graph)
    return "\n".join(line for node_id in outcomes for line in _shown(node_id, outcomes[node_id]))


def run_demo(output: Path) -> str:
    """Run the quick-start graph as a new run, write the summary beside it, and give it as text."""
    begin = time.monotonic()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkflowError(f"--output {str(output)!r} cannot be made: {error.strerror}") from error
    graph = read_workflow(QUICK_START)
    trainer = _only(_TRAINER, ((key, node["class_type"]) for key, node in graph.items()))
    run = unused_name(DEMO_RUN, lambda name: resolve_output(name).exists())
    graph = apply_settings(graph, [f"{trainer}.run_name={run}"], CLASSES)
    outcomes = _run(graph)
    by_class = {outcome.class_type: outcome for outcome in outcomes.values()}
    summary = {**summarise(by_class), "seconds": round(time.monotonic() - begin, 1)}
    text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(output / SUMMARY, text)
    return describe(summary, by_class["GDPOCompare"].ui["answers"][0]["prompt"], output / SUMMARY)


def _run(graph: Graph) -> dict[str, Outcome]:
    poll = TerminalProgress("", 0).poll
    return run_workflow(graph, CLASSES, poll=poll)


def _only(class_type: str, nodes: Iterable[tuple[str, str]]) -> str:
    found = [node_id for node_id, kind in nodes if kind == class_type]
    if len(found) != 1:
        raise WorkflowError(f"the demo's workflow needs one {class_type}, found {len(found)}")
    return found[0]


def _shown(node_id: str, outcome: Outcome) -> Iterable[str]:
    if not outcome.ui:
        return
    yield f"== {NAMES.get(outcome.class_type, outcome.class_type)} (node {node_id})"
    yield from (str(text) for text in outcome.ui.get("text", ()))
    if outcome.class_type == _TRAINER:
        yield from _findings(outcome)
    for image in outcome.ui.get("images", ()):
        yield str(folders().output / image["subfolder"] / image["filename"])


def _findings(outcome: Outcome) -> list[str]:
    """Return what looks wrong at the end of a training, a line for each finding."""
    return [f"! {text}" for run in outcome.ui.get("gdpo_runs", ()) for text in run["findings"]]


def summarise(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Return the demo's result as plain JSON, but for the seconds.

    Args:
        outcomes: what each node of the quick-start graph gave, by class.
    """
    run = outcomes[_TRAINER].outputs[1]
    evaluations = [
        record["eval"]["rewards"] for record in read_history(run.folder) if "eval" in record
    ]
    first, last = evaluations[0], evaluations[-1]
    image = outcomes["GDPOPlotConvergence"].ui["images"][0]
    answer = outcomes["GDPOCompare"].ui["answers"][0]
    keys = ("path", "type", "kl", "top1", "holds", "bits_per_weight", "fell_back")
    return to_json({
        "rewards": {
            name: {"before": first[name]["mean"], "after": last[name]["mean"]} for name in first
        },
        "findings": outcomes[_TRAINER].ui["gdpo_runs"][0]["findings"],
        "gguf": [
            {key: file.get(key) for key in keys} for file in outcomes["GDPOExportGGUF"].ui["gguf"]
        ],
        "plot": folders().output / image["subfolder"] / image["filename"],
        "history": run.folder / HISTORY_FILE,
        "answers": {column: answer[column] for column in ("base", "tuned", "gguf")},
    })


def describe(summary: Mapping[str, Any], prompt: str, path: Path) -> str:
    """Return the demo's summary for people."""
    width = max(map(len, summary["rewards"]))
    lines = [
        f"Done in {summary['seconds']:.0f} s.",
        "",
        "Rewards on held-out prompts, before -> after:",
    ]
    lines += [
        f"  {name.ljust(width)}  {_figure(value['before'])} -> {_figure(value['after'])}"
        for name, value in summary["rewards"].items()
    ]
    if summary["findings"]:
        lines += ["", "What looks wrong:", *(f"  {text}" for text in summary["findings"])]
    lines += ["", f"Asked: {prompt}"]
    lines += [f"  {column:5}  {_one_line(text)}" for column, text in summary["answers"].items()]
    lines += ["", "Files:"]
    for file in summary["gguf"]:
        verdict = {True: "holds", False: "does not hold", None: "not verified"}[file["holds"]]
        kl = "" if file["kl"] is None else f", KL {file['kl']:.2g}"
        bits = f", {file['bits_per_weight']:.1f} bits per weight"
        fallen = sum(file["fell_back"].values())
        others = (
            f", {fallen} tensors fell back to {' / '.join(file['fell_back'])}" if fallen else ""
        )
        lines.append(f"  {file['path']} ({verdict}{kl}{bits}{others})")
    return "\n".join([*lines, *(f"  {summary[key]}" for key in ("plot", "history")), f"  {path}"])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "(nothing)"
