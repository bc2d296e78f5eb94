"""Tokens per second of sampling over models, batches and lengths: the races of `_rollout`, each in a process.

    python -m benchmarks._sampling times MODEL BATCHES LENGTH ROUNDS

Prints one line of JSON. A model other than the starter is of that shape with random weights.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

STARTER = "starter"
# The starter is made for 512 tokens; its positions go on beyond, and only speed is measured here.
POSITIONS = 1024
# Tokens in a page of continuous batching's cache.
CB_PAGE = 256


@dataclass(frozen=True)
class Race:
    """Batches of one model at one length, all engines in turns.

    Attributes:
        model: The starter or one of `memory.SHAPES`.
        batches: Completions at a time.
        new_tokens: Length of each completion.
        rounds: Of which the median counts.
    """

    model: str
    batches: tuple[int, ...]
    new_tokens: int
    rounds: int


RACES = (
    Race(STARTER, (1, 8, 32, 64), 48, 3),
    Race(STARTER, (32,), 64, 3),
    Race(STARTER, (32,), 256, 2),
    Race(STARTER, (32,), 512, 2),
    Race("SmolLM-135M", (1, 8, 32), 24, 2),
)
LEFT_OUT = {
    "sampling: random weights at other lengths, and Qwen2.5-0.5B": "minutes a cell on a CPU",
}
QUICK = (Race(STARTER, (32,), 48, 2),)


def make_folder(folder: Path, model: str) -> None:
    """Write the model into `folder`, with room for long completions."""
    from benchmarks.memory import SHAPES, make_model
    from gdpo.starter import MODEL_DIR

    if model != STARTER:
        make_model(folder, SHAPES[model])
        return
    shutil.copytree(MODEL_DIR, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = POSITIONS
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def bounded(job: type) -> type:
    """A `_rollout.Job` that tells continuous batching how much it will need.

    Otherwise it takes 80 % of the machine's memory for its cache and a mask as wide, and seconds to fill them.
    """

    class Bounded(job):
        def _continuous(self) -> int:
            from transformers.generation.configuration_utils import ContinuousBatchingConfig

            longest = max(map(len, self.ids))
            pages = -(-(longest + self.new_tokens) // CB_PAGE) + 1
            config = ContinuousBatchingConfig(
                page_size=CB_PAGE,
                num_blocks=self.batch * pages,
                max_batch_tokens=max(CB_PAGE, self.batch * longest),
            )
            base = self.model.get_base_model()
            base.generate_batch = partial(base.generate_batch, continuous_batching_config=config)
            try:
                return super()._continuous()
            finally:
                del base.generate_batch  # the class's own method shows again

    return Bounded


def run(race: Race) -> dict[str, Any]:
    """The rows of one race, and what failed."""
    import gdpo.starter
    from benchmarks import _rollout

    _rollout.Job = bounded(_rollout.Job)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        make_folder(folder, race.model)
        gdpo.starter.MODEL_DIR = folder  # what `_rollout` loads, in this process only
        rows, missing = _rollout.measure(race.batches, race.new_tokens, race.rounds)
    return {"rows": [{**row, "model": race.model} for row in rows], "missing": missing}


def arguments_of(race: Race) -> tuple[object, ...]:
    """What this program is called with for a race."""
    return ("times", race.model, ",".join(map(str, race.batches)), race.new_tokens, race.rounds)


def race_of(arguments: list[str]) -> Race:
    """The race that the arguments are of."""
    _, model, batches, new_tokens, rounds = arguments
    return Race(model, tuple(map(int, batches.split(","))), int(new_tokens), int(rounds))


if __name__ == "__main__":
    print(json.dumps(run(race_of(sys.argv[1:]))))  # noqa: T201
