"""The memory that is told in advance, against what a training takes.

    python run.py bench memory [--quick]

Each cell trains for two steps in a process of its own, on random weights of a real configuration, so that
completions reach their full length. On a CPU the peak is that of the resident set, less what it was before the
model was loaded and after a tiny model was trained in the same process (so that all libraries are there); on CUDA
it is what the allocator gave out. Loading has its own peak. Results go to benchmarks/results/memory.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._memory import peak_mb, reset_peak, resident_mb
from benchmarks._results import machine, write

ROOT = Path(__file__).resolve().parents[1]
WITHIN = 0.15
# Shapes of models that people train, and of the bundled one, with the words for transformers.
SHAPES: dict[str, dict[str, Any]] = {
    "starter (4 M)": {},
    "SmolLM-135M": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "vocab_size": 49152,
    },
    "Gemma-3-270M": {
        "model_type": "gemma3_text",
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 262144,
        "sliding_window": 512,
    },
    "Qwen2.5-0.5B": {
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "vocab_size": 151936,
    },
}
# (shape, precision, prompts_per_step, group_size, max_new_tokens, micro_batch, gradient_checkpointing)
Cell = tuple[str, str, int, int, int, int, bool]
QUICK: tuple[Cell, ...] = (
    ("starter (4 M)", "fp32", 4, 4, 64, 16, False),
    ("SmolLM-135M", "fp32", 2, 2, 16, 4, False),
)
CELLS: tuple[Cell, ...] = (
    ("SmolLM-135M", "fp32", 2, 2, 16, 4, False),
    ("SmolLM-135M", "int8", 2, 2, 16, 4, False),
    ("SmolLM-135M", "nf4", 2, 2, 16, 4, False),
    ("SmolLM-135M", "bf16", 2, 2, 16, 4, False),
    ("SmolLM-135M", "fp32", 2, 2, 16, 4, True),
    ("SmolLM-135M", "fp32", 2, 2, 16, 1, False),
    ("SmolLM-135M", "fp32", 2, 2, 64, 4, False),
    ("starter (4 M)", "fp32", 4, 8, 64, 16, False),
    ("starter (4 M)", "fp32", 4, 8, 128, 32, False),
    ("starter (4 M)", "fp32", 4, 8, 128, 32, True),
    ("starter (4 M)", "bf16", 4, 8, 64, 32, False),
    ("Qwen2.5-0.5B", "fp32", 2, 2, 16, 4, False),
    ("Qwen2.5-0.5B", "nf4", 2, 2, 16, 4, False),
    ("Gemma-3-270M", "fp32", 2, 2, 16, 4, False),
    ("Gemma-3-270M", "fp32", 2, 2, 16, 4, True),
    ("Qwen2.5-0.5B", "bf16", 2, 2, 16, 4, False),
    ("Qwen2.5-0.5B", "fp32", 2, 2, 16, 4, True),
    ("SmolLM-135M", "fp32", 2, 8, 24, 16, False),
)

logger = logging.getLogger(__name__)


def make_model(folder: Path, shape: dict[str, Any]) -> None:
    """Write a model of this shape with random weights in bf16, and the starter model's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from gdpo.starter import MODEL_DIR

    known = json.loads((MODEL_DIR / "config.json").read_text(encoding="utf-8"))
    if "hidden_size" in shape:
        known["max_position_embeddings"] = 8192
    whole = {**known, **shape}
    config = AutoConfig.for_model(whole.pop("model_type"), **whole)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)


def measure(folder: Path, tiny: Path, device: str, cell: Cell) -> dict[str, float]:
    """Peaks of loading and of two steps in this process, in MB above the loaded libraries; and the estimate."""
    from gdpo.loading import load_policy

    _train(load_policy(tiny, precision=cell[1], device=device), (*cell[:2], 2, 2, 4, 4, cell[6]))
    gc.collect()
    reset_peak(device)
    baseline = resident_mb(device)
    policy = load_policy(folder, precision=cell[1], device=device)
    loading = peak_mb(device)[0] - baseline
    reset_peak(device)
    _train(policy, cell)
    measured = peak_mb(device)[0] - baseline
    return {"baseline_mb": baseline, "loading_mb": loading, "measured_mb": measured}


def _train(policy: Any, cell: Cell) -> None:
    from gdpo.methods import combine_rewards
    from gdpo.rewards import SCORERS, Reward
    from gdpo.trainer import train

    kinds = ("Conciseness", "Politeness", "Repetition")
    objective = combine_rewards([Reward(kind, SCORERS[kind]()) for kind in kinds])
    with tempfile.TemporaryDirectory() as folder:
        train(policy, _prompts(), objective, _settings(cell), Path(folder) / "run")


def _prompts() -> Any:
    from gdpo.prompts import load_prompts
    from gdpo.starter import TRAIN_PROMPTS

    return load_prompts(TRAIN_PROMPTS)[:64]


def _settings(cell: Cell) -> Any:
    from gdpo.settings import TrainSettings

    return TrainSettings(
        steps=2,
        prompts_per_step=cell[2],
        group_size=cell[3],
        max_new_tokens=cell[4],
        micro_batch=cell[5],
        gradient_checkpointing=cell[6],
    )


def foretell(folder: Path, device: str, cell: Cell) -> Any:
    """The estimate of a cell, from the folder's configuration."""
    from transformers import AutoTokenizer

    from gdpo.memory import estimate, read_config
    from gdpo.policy import encode_prompt

    tokenizer = AutoTokenizer.from_pretrained(folder)
    longest = max(len(encode_prompt(tokenizer, prompt)) for prompt in _prompts())
    return estimate(
        read_config(folder),
        _settings(cell),
        rewards=3,
        precision=cell[1],
        device=device,
        prompt_tokens=longest,
    )


def row_of(folder: Path, tiny: Path, device: str, cell: Cell) -> dict[str, Any]:
    """One row of the result."""
    names = ("model", "precision", "prompts_per_step", "group_size", "max_new_tokens")
    setting = dict(zip((*names, "micro_batch", "gradient_checkpointing"), cell, strict=True))
    told = foretell(folder, device, cell)
    command = [sys.executable, "-m", "benchmarks.memory", "--measure"]
    command += [str(folder), str(tiny), device, json.dumps(cell)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{cell}: {reason}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    loading = told.phases.get("loading", told.parts["weights"]) / 2**20
    training = max(size for name, size in told.phases.items() if name != "loading") / 2**20
    ratio = training / found["measured_mb"]
    return {
        "setting": setting,
        "estimated_mb": round(training),
        "measured_mb": round(found["measured_mb"]),
        "ratio": round(ratio, 3),
        "within": abs(ratio - 1) <= WITHIN,
        "loading_estimated_mb": round(loading),
        "loading_measured_mb": round(found["loading_mb"]),
        "baseline_mb": round(found["baseline_mb"]),
        "parts_mb": {name: round(size / 2**20) for name, size in told.parts.items()},
    }


def main(arguments: list[str]) -> int:
    """Measure all cells, one at a time, and write the result."""
    parser = argparse.ArgumentParser(prog="run.py bench memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two cells; nothing is written")
    parser.add_argument("--only", default="", help="cells of models whose name has this")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        folder, tiny, device, cell = options.measure
        found = measure(Path(folder), Path(tiny), device, tuple(json.loads(cell)))
        print(json.dumps(found))  # noqa: T201
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    result: dict[str, Any] = {"machine": machine(), "within": "", "rows": [], "not_measured": {}}
    if device == "cpu":
        result["not_measured"]["cuda"] = "no card on this machine"
    cells = [cell for cell in (QUICK if options.quick else CELLS) if options.only in cell[0]]
    with tempfile.TemporaryDirectory() as place:
        for cell in cells:
            _add(result, cell, Path(place), device)
            if cells == list(CELLS):
                write("memory", result)
    return 0


def _add(result: dict[str, Any], cell: Cell, place: Path, device: str) -> None:
    """Measure one cell into the result; what cannot be measured is listed."""
    folder, tiny = place / cell[0], place / f"tiny {cell[0]}"
    if not folder.exists():
        shape = SHAPES[cell[0]]
        make_model(folder, shape)
        small = {"intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 2048}
        make_model(tiny, {**shape, **small})
    rows = result["rows"]
    try:
        rows.append(row_of(folder, tiny, device, cell))
    except RuntimeError as error:
        result["not_measured"][str(cell)] = str(error)
        logger.warning("%s", error)
        return
    result["within"] = f"{sum(row['within'] for row in rows)} of {len(rows)} within {WITHIN:.0%}"
    logger.info("%s", {name: rows[-1][name] for name in rows[-1] if name != "parts_mb"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
