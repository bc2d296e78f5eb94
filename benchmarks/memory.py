"""The memory that is told in advance, against what a training takes.

    python run.py bench memory [--quick]

Each cell trains for two steps in a process of its own, on random weights of a real configuration, so that
completions reach their full length. On a CPU the peak is that of the resident set, less what it was before the
model was loaded and after a tiny model was trained in the same process (so that all libraries are there); on CUDA
it is what the allocator gave out. Loading, sampling and update have peaks of their own, told and measured. Results
go to benchmarks/results/memory.json; a cell that fails or takes too long is listed there with the reason.
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

from benchmarks._memory import forget_peak, peak_mb, reset_peak, resident_mb
from benchmarks._results import RESULTS, machine, write
from gdpo.errors import GDPOError

ROOT = Path(__file__).resolve().parents[1]
WITHIN = 0.15
# A cell takes 10 to 60 s on two cores; all of them about ten minutes.
CELL_SECONDS = 240
# What the trainer calls the phases, and which of the told ones they hold.
PHASES = {"sampling": ("sampling",), "updating": ("update", "step")}
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
# What is changed for the tiny model that brings all libraries in.
SMALL = {"intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 2048}
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
    """Peaks of two steps' phases in this process, in MB, the baseline of the loaded libraries with them."""
    from gdpo.policies.loading import load_policy

    _train(load_policy(tiny, precision=cell[1], device=device), (*cell[:2], 2, 2, 4, 4, cell[6]))
    gc.collect()
    reset_peak(device)
    baseline = resident_mb(device)
    policy = load_policy(folder, precision=cell[1], device=device)
    loading = peak_mb(device)[0]
    reset_peak(device)
    return {"baseline": baseline, "loading": loading, **_train(policy, cell, device)}


def _train(policy: Any, cell: Cell, device: str | None = None) -> dict[str, float]:
    """Train; the peak of each phase, if a device is named to measure it on."""
    from gdpo.objective.objective import combine_rewards
    from gdpo.progress import Progress
    from gdpo.rewards import SCORERS, Reward
    from gdpo.training.trainer import train

    peaks, names = {}, ["start"]

    class Watch(Progress):
        def phase(self, name: str, done: int, total: int) -> None:
            if device:
                peaks[names[-1]] = max(peaks.get(names[-1], 0.0), peak_mb(device)[0])
                forget_peak(device)
            names.append(name)

    kinds = ("Conciseness", "Politeness", "Repetition")
    objective = combine_rewards([Reward(kind, SCORERS[kind]()) for kind in kinds])
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        train(policy, _prompts(), objective, _settings(cell), Path(folder) / "r", progress=watch)
    watch.phase("end", 0, 0)
    return peaks


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
    from gdpo.policies.chat import encode_prompt

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
    """One row of the result.

    Raises:
        RuntimeError: The cell cannot be measured.
    """
    names = ("model", "precision", "prompts_per_step", "group_size", "max_new_tokens")
    setting = dict(zip((*names, "micro_batch", "gradient_checkpointing"), cell, strict=True))
    told = foretell(folder, device, cell)
    found = _measured(folder, tiny, device, cell)
    baseline = found.pop("baseline")
    expected = {"loading": told.phases.get("loading", told.parts["weights"])}
    for name, parts in PHASES.items():
        expected[name] = max(told.phases[part] for part in parts)
    training = max(size for name, size in expected.items() if name != "loading") / 2**20
    peak = max(size for name, size in found.items() if name != "loading") - baseline
    return {
        "setting": setting,
        "estimate_mb": round(training),
        "measured_mb": round(peak),
        "ratio": round(training / peak, 3),
        "within": abs(training / peak - 1) <= WITHIN,
        "phases_mb": {
            name: {"estimate": round(size / 2**20), "measured": round(found[name] - baseline)}
            for name, size in expected.items()
        },
        "parts_mb": {name: round(size / 2**20) for name, size in told.parts.items()},
        "baseline_mb": round(baseline),
    }


def _measured(folder: Path, tiny: Path, device: str, cell: Cell) -> dict[str, float]:
    """What `measure` finds in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--measure"]
    command += [str(folder), str(tiny), device, json.dumps(cell)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=CELL_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"took longer than {CELL_SECONDS} s") from error
    if done.returncode < 0:
        raise RuntimeError(
            f"ended by signal {-done.returncode}; 9 is the system's when memory ran out"
        )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(arguments: list[str]) -> int:
    """Measure all cells, one at a time, and write the result."""
    parser = argparse.ArgumentParser(prog="run.py bench memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two cells; nothing is written")
    parser.add_argument(
        "--only", default="", help="models whose name has this; other rows stay in the file"
    )
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
    missing = ["CUDA: no card on this machine"] if device == "cpu" else []
    result: dict[str, Any] = {
        "machine": machine(),
        "rows": [],
        "within_15_percent": "",
        "not_measured": missing,
    }
    known = RESULTS / "memory.json"
    if options.only and known.exists():
        result = json.loads(known.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as place:
        for cell in QUICK if options.quick else CELLS:
            if options.only in cell[0]:
                _add(result, cell, Path(place), device)
                if not options.quick:
                    write("memory", result)
    return 0


def _add(result: dict[str, Any], cell: Cell, place: Path, device: str) -> None:
    """Measure one cell into the result; what cannot be measured is listed."""
    folder, tiny = place / cell[0], place / f"tiny {cell[0]}"
    label = f"{', '.join(map(str, cell))}: "
    result["not_measured"] = [m for m in result["not_measured"] if not m.startswith(label)]
    try:
        if not folder.exists():
            shape = SHAPES[cell[0]]
            make_model(tiny, {**shape, **SMALL})
            make_model(folder, shape)
        row = row_of(folder, tiny, device, cell)
    except (RuntimeError, OSError, GDPOError) as error:
        result["not_measured"].append(f"{label}{error}")
        logger.warning("%s", result["not_measured"][-1])
        return
    result["rows"] = rows = [r for r in result["rows"] if r["setting"] != row["setting"]] + [row]
    result["within_15_percent"] = f"{sum(r['within'] for r in rows)} of {len(rows)}"
    logger.info("%s", {name: row[name] for name in row if name != "parts_mb"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
