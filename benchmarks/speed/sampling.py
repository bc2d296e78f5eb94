"""Races the sampling engines: tokens per second, in turns, round by round.

    python -m benchmarks.speed.sampling run --model starter --batches '[8, 32]' --new-tokens 48 --rounds 2

One model with a random LoRA of rank 16 on all linear layers, the same prompts, all completions of full length. The
ratio to `generate` is the median over the rounds, so that a machine which others use too disturbs all alike. A
model other than the starter has that shape and random weights.
"""

from __future__ import annotations

import json
import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common.children import answer
from benchmarks.common.models import RANK, SHAPES, make_model, never_ending
from benchmarks.speed.engines import Engine, Job, engines
from benchmarks.speed.races import STARTER

# The starter is made for 512 tokens. Its positions go on beyond that here, where only speed is measured.
POSITIONS = 1024

logger = logging.getLogger(__name__)


def run(model: str, batches: list, new_tokens: int, rounds: int) -> dict[str, Any]:
    """Run one race.

    Returns:
        `rows`: `{"engine", "model", "batch", "new_tokens", "tokens_per_s", "ratio_to_generate"}` each, and
        `missing`: the reason of each engine that could not be measured.
    """
    import torch

    from gdpo.policies.adapter import read_adapter
    from gdpo.policies.loading import load_policy
    from gdpo.policies.policy import Policy, trainable

    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        make_folder(folder, model)
        loaded = load_policy(folder, precision="fp32", device="cpu")
        never_ending(loaded.base.tokenizer, loaded.base.model)
        with trainable(loaded, rank=RANK, alpha=2 * RANK, seed=0) as adapted:
            torch.manual_seed(0)
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.data.normal_(0, 0.01)
            tuned = Policy(loaded.base, read_adapter(adapted))
            gguf = attempt(missing, "llama.cpp", lambda: _export(tuned, Path(place)))
            for batch in batches:
                job = Job(adapted, loaded.base.tokenizer, batch, new_tokens, gguf)
                rows += [{**row, "model": model} for row in _race(job, rounds, missing)]
    return {"rows": rows, "missing": missing}


def make_folder(folder: Path, model: str) -> None:
    """Write the model into `folder`, with room for long completions."""
    from gdpo.starter import MODEL_DIR

    if model != STARTER:
        make_model(folder, SHAPES[model])
        return
    shutil.copytree(MODEL_DIR, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = POSITIONS
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _race(job: Job, rounds: int, missing: dict[str, str]) -> list[dict[str, Any]]:
    runs: dict[str, Engine] = {}
    for name, prepare in engines(job).items():
        engine = attempt(missing, name, prepare)
        if engine and attempt(missing, name, engine):  # the first run warms up
            runs[name] = engine
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, engine in runs.items():
            begin = time.perf_counter()
            count = engine()
            speeds[name].append(count / (time.perf_counter() - begin))
    return [
        {
            "engine": name,
            "model": STARTER,
            "batch": job.batch,
            "new_tokens": job.new_tokens,
            "tokens_per_s": round(statistics.median(found), 1),
            "ratio_to_generate": _ratio(found, speeds["generate"]),
        }
        for name, found in speeds.items()
    ]


def _ratio(speeds: list[float], base: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(speeds, base, strict=True)), 3)


def attempt(missing: dict[str, str], name: str, step: Callable[[], Any]) -> Any:
    """Return what `step` returns; list an engine that is absent or fails as not measured."""
    if name in missing:
        return None
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - other people's engines raise errors of any class
        missing[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        logger.warning("%s is not measured: %s", name, missing[name])
        return None


def _export(policy: Any, folder: Path) -> Path:
    from gdpo.export.pipeline import export_gguf

    return export_gguf(policy, folder, "starter", types=("F32",))[0].path


if __name__ == "__main__":
    answer(run)
