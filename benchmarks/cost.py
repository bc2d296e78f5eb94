"""What directing costs: the update with K rewards, against a plain fixed-weight step and K backward passes.

    python run.py bench cost [--quick]

Each measurement runs in a process of its own, on the same model, rollouts and adapter, so that its peak
memory is its own. Ratios are to the plain step of the same precision: one backward pass of the summed
advantages by autograd alone. Results go to benchmarks/results/cost.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "cost.json"
KS = (1, 2, 5, 10, 20)
# K passes on a retained graph, K whole passes, ours.
METHODS = ("retained", "rerun", "one_pass")
MICRO_BATCH, GROUP, PROMPTS, NEW_TOKENS = 16, 8, 8, 64
REPEATS = 5

logger = logging.getLogger(__name__)


def measure(method: str, count: int, precision: str, device: str, repeats: int) -> dict[str, Any]:
    """Median seconds of one update and of the sampling, and the peak memory, in this process."""
    import torch

    from gdpo.loading import load_policy
    from gdpo.metrics import peak_memory_mb
    from gdpo.policy import trainable
    from gdpo.prompts import load_prompts
    from gdpo.rollouts import sample
    from gdpo.settings import TrainSettings
    from gdpo.starter import MODEL_DIR, TRAIN_PROMPTS

    policy = load_policy(MODEL_DIR, precision=precision, device=device)
    prompts = load_prompts(TRAIN_PROMPTS)[:PROMPTS]
    settings = TrainSettings(max_new_tokens=NEW_TOKENS, micro_batch=MICRO_BATCH)
    with trainable(policy, rank=16, alpha=32, seed=0) as model:
        begin = time.perf_counter()
        rollouts = sample(
            model,
            policy.base.tokenizer,
            prompts,
            group_size=GROUP,
            max_new_tokens=NEW_TOKENS,
            seed=0,
        )
        sampling = time.perf_counter() - begin
        advantages = torch.randn(count, GROUP * PROMPTS, generator=torch.Generator().manual_seed(0))
        update = UPDATES[method]
        update(model, rollouts, advantages, settings)  # warm-up
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            update(model, rollouts, advantages, settings)
            if device != "cpu":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
    return {
        "update": statistics.median(seconds),
        "sample": sampling,
        "memory_mb": peak_memory_mb(device),
        "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
    }


def plain(model: Any, rollouts: Any, advantages: Any, settings: Any) -> list[Any]:
    """The fixed-weight step of any trainer: one backward pass of the summed advantages."""
    return separate(model, rollouts, advantages.sum(0, keepdim=True), settings, retain=False)


def retained(model: Any, rollouts: Any, advantages: Any, settings: Any) -> list[Any]:
    """K backward passes on one retained graph."""
    return separate(model, rollouts, advantages, settings, retain=True)


def rerun(model: Any, rollouts: Any, advantages: Any, settings: Any) -> list[Any]:
    """K forward and backward passes, one for each reward."""
    return [separate(model, rollouts, row[None], settings, retain=False) for row in advantages]


def separate(model: Any, rollouts: Any, advantages: Any, settings: Any, *, retain: bool) -> Any:
    """Gradients of each row of `advantages` by autograd, summed over micro-batches."""
    import torch

    from gdpo.logprobs import score_tokens
    from gdpo.update import micro_batches

    parameters = [p for p in model.parameters() if p.requires_grad]
    buffers = [torch.zeros(len(advantages), *p.shape, device=p.device) for p in parameters]
    rows = torch.arange(advantages.shape[1], device=rollouts.logprobs.device)
    for part in micro_batches(rollouts, rows, settings.micro_batch):
        likelihoods = score_tokens(model, rollouts, part, settings.temperature).logprobs.sum(1)
        for k, row in enumerate(advantages.to(likelihoods)[:, part]):
            keep = retain and k < len(advantages) - 1
            loss = (row * likelihoods).sum()
            for buffer, gradient in zip(
                buffers, torch.autograd.grad(loss, parameters, retain_graph=keep), strict=True
            ):
                buffer[k] += gradient
    return buffers


def one_pass(model: Any, rollouts: Any, advantages: Any, settings: Any) -> list[Any]:
    """Ours: all gradients from one backward pass, with their inner products."""
    from gdpo.update import differentiate

    gradients = differentiate(model, rollouts, advantages, settings, lambda: None).gradients
    gradients.inner_products()
    return gradients.buffers


UPDATES: dict[str, Callable[..., Any]] = {
    "plain": plain,
    "retained": retained,
    "rerun": rerun,
    "one_pass": one_pass,
}


def in_own_process(*arguments: object) -> dict[str, Any]:
    """Run `measure` in a child and read what it prints."""
    command = [sys.executable, "-m", "benchmarks.cost", "--measure", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"measuring {arguments} failed: {reason}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def rows_of(precision: str, device: str, ks: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """All rows of one precision, as ratios to its plain step."""
    base = in_own_process("plain", 1, precision, device, repeats)
    rows = []
    for count in ks:
        for method in METHODS:
            found = in_own_process(method, count, precision, device, repeats)
            rows.append({
                "k": count,
                "precision": precision,
                "device": found["device"],
                "method": method,
                "update_time_ratio": round(found["update"] / base["update"], 3),
                "step_time_ratio": round(
                    (base["sample"] + found["update"]) / (base["sample"] + base["update"]), 3
                ),
                "memory_ratio": round(found["memory_mb"] / base["memory_mb"], 3),
            })
            logger.info("%s", rows[-1])
    return rows


def main(arguments: list[str]) -> int:
    """Measure all precisions that run here and write the result."""
    parser = argparse.ArgumentParser(prog="run.py bench cost", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fp32 and K = 1, 5 only")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        method, count, precision, device, repeats = options.measure
        print(json.dumps(measure(method, int(count), precision, device, int(repeats))))  # noqa: T201
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    precisions = ("fp32",) if options.quick else ("fp32", "bf16", "int8", "nf4")
    ks = (1, 5) if options.quick else KS
    rows, missing = [], {}
    for precision in precisions:
        try:
            rows += rows_of(precision, device, ks, 2 if options.quick else REPEATS)
        except RuntimeError as error:  # bitsandbytes may be absent; say so in the result
            missing[precision] = str(error)
            logger.warning("%s", error)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "completions": GROUP * PROMPTS,
        "rows": rows,
        "not_measured": missing,
    }
    if not options.quick:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        logger.info("written to %s", RESULT)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
