"""Tries every family of language models that transformers has: does it load, train, and export?

    python -m scripts.families [--only NAME ...] [--export] [--write]

Each family gets a tiny random model with the bundled tokenizer, in a process of its own: saved, loaded as the
pack loads it, asked whether its export can succeed, as the nodes ask, and trained for two steps; with `--export` it
is exported as F16 and verified, which alone counts as exported. The table goes to the screen, with `--write` into docs/models.md
as well. What was found of all families is kept in output/families.jsonl, so that a look that was broken off goes
on; remove it to begin anew.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from scripts.families_page import AFTER, BEFORE, PLANNED, families, table, write_page
from scripts.tiny_models import save_tiny

ROOT = Path(__file__).resolve().parents[1]
# A family that takes longer than this is called too slow to tell.
LIMIT = 120
KEPT = ROOT / "output" / "families.jsonl"


def attempt(kind: str, folder: Path, *, export: bool) -> dict[str, str]:
    """Return how far a family comes: each stage is "yes" or the message that ended it."""
    stages = ("made", "loads", "trains", "export")
    found: dict[str, str] = {}
    try:
        save_tiny(kind, folder / "model")
        found["made"] = "yes"
        _use(folder, found, export=export)
    except Exception as error:  # noqa: BLE001  the families' own, of any kind
        stage = next(name for name in stages if name not in found)
        when = AFTER if stage == "export" else ""
        found[stage] = f"{when}{type(error).__name__}: {error}".splitlines()[0]
    return found


def _use(folder: Path, found: dict[str, str], *, export: bool) -> None:
    import gdpo

    policy = gdpo.load_policy(str(folder / "model"), precision="fp32", device="cpu")
    found["loads"] = "yes"
    refusal = _refusal(policy, folder / "gguf")
    trained = _trained(policy, folder / "run")
    found["trains"] = "yes"
    if refusal or not export:
        found["export"] = f"{BEFORE}{refusal}" if refusal else PLANNED
        return
    (file,) = gdpo.export_gguf(trained, folder / "gguf", types=("F16",))
    holds = file.report.holds
    found["export"] = "yes" if holds else f"{AFTER}does not hold: {file.report.why}"


def _refusal(policy: Any, folder: Path) -> str:
    """Return what the nodes would refuse an export with before the training; empty where they would not."""
    from gdpo.errors import ExportError
    from gdpo.export.checks import plan_export
    from gdpo.export.rehearsal import rehearse

    try:
        rehearse(policy, plan_export(policy, folder, "tiny", ("F16",)))
    except ExportError as error:
        return str(error).splitlines()[0]
    return ""


def _trained(policy: Any, folder: Path) -> Any:
    import gdpo

    reward = gdpo.Reward("short", gdpo.Conciseness(shortest=1, longest=4))
    run = gdpo.train(
        policy,
        ["How do I restart the router?", "The printer is out of paper."],
        gdpo.combine_rewards([reward, gdpo.Reward("polite", gdpo.Politeness())]),
        folder,
        steps=2,
        prompts_per_step=2,
        group_size=4,
        max_new_tokens=8,
    )
    return run.policy


def tried(kind: str, context: Any, *, export: bool) -> dict[str, str]:
    """Return what `attempt` finds in a process of its own, which a family cannot take down."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "found.json"
        child = context.Process(target=_attempt_alone, args=(kind, Path(folder), result, export))
        child.start()
        child.join(LIMIT)
        if child.is_alive():
            child.kill()
            return {"made": f"took over {LIMIT} s"}
        return json.loads(result.read_text()) if result.exists() else {"made": "ended its process"}


def _attempt_alone(kind: str, folder: Path, result: Path, export: bool) -> None:
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        result.write_text(json.dumps(attempt(kind, folder, export=export)))


def read_kept() -> dict[str, dict[str, str]]:
    """Return what an earlier look found."""
    lines = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    return {kind: stages for line in lines for kind, stages in json.loads(line).items()}


def main(arguments: list[str]) -> int:
    """Try the families, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="these families")
    parser.add_argument("--export", action="store_true", help="export and verify, too")
    parser.add_argument("--write", action="store_true", help="write the table into docs/models.md")
    options = parser.parse_args(arguments)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([
        "scripts.families",
        "transformers",
        "peft",
        "gdpo.training.trainer",
    ])
    found = {} if options.only else read_kept()
    KEPT.parent.mkdir(exist_ok=True)
    for kind in (kind for kind in options.only or families() if kind not in found):
        found[kind] = tried(kind, context, export=options.export)
        line = json.dumps({kind: found[kind]})
        sys.stderr.write(f"{line}\n")
        if not options.only:
            with KEPT.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
    text = table({kind: found[kind] for kind in sorted(found)})
    if options.write:
        write_page(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
