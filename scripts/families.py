"""Tries every family of language models that transformers has: does it load, train, and export?

    python -m scripts.families [--only NAME ...] [--export] [--write]

Each family gets a tiny random model with the bundled tokenizer, in a process of its own: saved, loaded as the
pack loads it, trained for two steps, and asked whether its export can succeed; with `--export` it is exported as
F16 and verified, which alone counts as exported. The table goes to the screen, with `--write` into docs/models.md
as well. What was found of all families is kept in output/families.jsonl, so that a look that was broken off goes
on; remove it to begin anew.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import re
import sys
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from scripts.tiny_models import save_tiny

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "models.md"
MARK = "<!-- made by `python -m scripts.families --write` -->"
# A family that takes longer than this is called too slow to tell.
LIMIT = 120
# Of an export that was asked about and not made.
PLANNED = "not refused beforehand; not tried"
KEPT = ROOT / "output" / "families.jsonl"


def families() -> dict[str, str]:
    """Return the class of each kind of model that transformers completes texts with."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as names

    return {kind: name for kind, name in sorted(names.items()) if isinstance(name, str)}


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
        found[stage] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found


def _use(folder: Path, found: dict[str, str], *, export: bool) -> None:
    import gdpo
    from gdpo.export.checks import plan_export

    policy = gdpo.load_policy(str(folder / "model"), precision="fp32", device="cpu")
    found["loads"] = "yes"
    reward = gdpo.Reward("short", gdpo.Conciseness(shortest=1, longest=4))
    run = gdpo.train(
        policy,
        ["How do I restart the router?", "The printer is out of paper."],
        gdpo.combine_rewards([reward, gdpo.Reward("polite", gdpo.Politeness())]),
        folder / "run",
        steps=2,
        prompts_per_step=2,
        group_size=4,
        max_new_tokens=8,
    )
    found["trains"] = "yes"
    if not export:
        plan_export(run.policy, folder / "gguf", "tiny", ("F16",))
        found["export"] = PLANNED
        return
    (file,) = gdpo.export_gguf(run.policy, folder / "gguf", types=("F16",))
    found["export"] = "yes" if file.report.holds else f"does not hold: {file.report.why}"


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


def table(found: dict[str, dict[str, str]]) -> str:
    """Return what was found as a page in Markdown."""
    import transformers

    names = families()
    told = {kind: stages for kind, stages in found.items() if stages.get("made") == "yes"}
    lines = ["| family | class | trains | export as GGUF |", "|---|---|---|---|"]
    for kind, stages in told.items():
        trains = stages.get("trains", stages.get("loads", ""))
        cells = [kind, names[kind], *(_cell(text) for text in (trains, stages.get("export", "")))]
        lines.append(f"| {' | '.join(cells)} |")
    trained = sum(stages.get("trains") == "yes" for stages in told.values())
    exported = sum(stages.get("export") == "yes" for stages in told.values())
    head = (
        f"Of {len(found)} families of transformers {transformers.__version__}, {trained} train and {len(told) - trained} "
        f"do not. Of those that train, {exported} were exported to a file that holds what was trained."
    )
    untold = ", ".join(kind for kind in found if kind not in told)
    rest = f"Of these no tiny model could be made, so nothing is told of them: {untold or 'none'}."
    return "\n".join([MARK, "", head, "", rest, "", *lines, ""])


def _cell(message: str) -> str:
    """Return a message as the table holds it, without the folder of one machine."""
    return re.sub(r"converter in '[^']*'", "converter in its folder", message).replace("|", "\\|")


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
        PAGE.write_text(PAGE.read_text().partition(MARK)[0] + text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
