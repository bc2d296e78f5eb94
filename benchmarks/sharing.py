"""What sharing prompts in the update does to the conflict map and to its time.

    python run.py bench sharing [--steps N]

One training of the bundled model on its own prompts, three rewards. At each step the gradients are taken twice on the
same completions: with prompts shared, as the trainer does, where sketches and norms leave out the prompts'
positions, and with every completion passing whole. Each way has a director of its own; their maps and weights are
compared. The step itself is the same both ways (`tests/update/test_shared_prompts.py`). The result goes to
benchmarks/results/sharing.json.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.results import machine, write
from gdpo.objective.director import Director
from gdpo.objective.objective import Objective, combine_rewards
from gdpo.objective.plan import Direction, Plan
from gdpo.rewards import SCORERS, Reward
from gdpo.settings import TrainSettings
from gdpo.training.trainer import Parts, train
from gdpo.update.micro_batches import plan
from gdpo.update.passes import Differentiated, differentiate

KINDS = ("Conciseness", "Politeness", "Repetition")
STEPS = 40
# The first steps, in which the map says least, are told apart from the rest.
EARLY = 5

logger = logging.getLogger(__name__)


class Comparison:
    """The same steps measured both ways.

    Attributes:
        rows: One a step: what differs.
        seconds: Of the updates with shared prompts, and without.
    """

    def __init__(self, objective: Objective) -> None:
        self.rows: list[dict[str, float]] = []
        self.seconds: tuple[list[float], list[float]] = ([], [])
        self._whole = Director(objective)
        self._plan: Plan | None = None  # of the whole passes' director
        self._found: Differentiated | None = None

    def differentiate(
        self,
        model: Any,
        rollouts: Any,
        combination: Any,
        advantages: Any,
        settings: Any,
        *rest: Any,
        **options: Any,
    ) -> Differentiated:
        """Stands in for the trainer's: both ways, the shared one's result."""
        rows = torch.arange(len(rollouts.lengths))
        whole = plan(model, rollouts, rows, settings.micro_batch, settings.temperature, share=False)
        results = []
        for seconds, batches in zip(self.seconds, (None, whole), strict=True):
            start = time.perf_counter()
            arguments = (model, rollouts, combination, advantages, settings, *rest)
            results.append(differentiate(*arguments, **options, batches=batches))
            seconds.append(time.perf_counter() - start)
        self._found = results[1]
        return results[0]

    def director(self) -> type[Director]:
        """Stands in for the trainer's: it has the whole passes' director do the same."""
        comparison = self

        class Twice(Director):
            def observe(self, rewards: torch.Tensor, prompts: int | None = None) -> torch.Tensor:
                comparison._whole.observe(rewards, prompts)
                return super().observe(rewards, prompts)

            def decide(self, advantages: torch.Tensor) -> Plan:
                comparison._plan = comparison._whole.decide(advantages)
                return super().decide(advantages)

            def measure(
                self, plan: Plan, products: torch.Tensor, squared_norms: torch.Tensor
            ) -> Direction:
                direction = super().measure(plan, products, squared_norms)
                comparison.add(direction, squared_norms)
                return direction

        return Twice

    def add(self, shared: Direction, squared_norms: torch.Tensor) -> None:
        """Take in one step's differences."""
        gradients = self._found.gradients
        norms = gradients.squared_norms.double()
        whole = self._whole.measure(self._plan, gradients.inner_products(), norms)
        pairs = torch.triu_indices(*whole.cosines.shape, offset=1)
        ours, theirs = (d.cosines[pairs[0], pairs[1]] for d in (shared, whole))
        self.rows.append({
            "step": len(self.rows) + 1,
            "lowest_cosine_shared": float(ours.min()),
            "lowest_cosine_whole": float(theirs.min()),
            "cosine_rms": float((ours - theirs).square().mean().sqrt()),
            "cosine_max": float((ours - theirs).abs().max()),
            "weight_max": float((shared.weights - whole.weights).abs().max()),
            "norms_ratio": float(squared_norms.sum() / norms.sum()),
        })


def run(steps: int) -> Comparison:
    """Train the bundled model, measuring both ways."""
    from gdpo.policies.loading import load_policy
    from gdpo.prompts import load_prompts
    from gdpo.starter import MODEL_DIR, TRAIN_PROMPTS

    objective = combine_rewards([Reward(kind, SCORERS[kind]()) for kind in KINDS])
    settings = TrainSettings(steps=steps, max_new_tokens=48, optimizer="adamw", learning_rate=1e-3)
    policy = load_policy(MODEL_DIR, precision="fp32", device="cpu")
    comparison = Comparison(objective)
    parts = Parts(comparison.director(), comparison.differentiate)
    with tempfile.TemporaryDirectory() as folder:
        prompts = load_prompts(TRAIN_PROMPTS)
        train(policy, prompts, objective, settings, Path(folder) / "run", parts=parts)
    return comparison


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return means over some steps; of the largest differences the largest."""
    return {
        name: round((max if name.endswith("max") else statistics.fmean)(r[name] for r in rows), 4)
        for name in rows[0]
        if name != "step"
    }


def main(arguments: list[str]) -> int:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(prog="run.py bench sharing", description=__doc__)
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="fewer than 40: nothing is written"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    comparison = run(options.steps)
    shared, whole = (statistics.median(seconds) for seconds in comparison.seconds)
    result = {
        "machine": machine(),
        "first_steps": summary(comparison.rows[:EARLY]),
        "later_steps": summary(comparison.rows[EARLY:]),
        "update_time_ratio": round(shared / whole, 3),
        "rows": comparison.rows,
    }
    if options.steps >= STEPS:
        write("sharing", result)
    logger.info("%s", {name: value for name, value in result.items() if name != "rows"})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
