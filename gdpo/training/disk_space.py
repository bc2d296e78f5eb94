"""Whether the disk has room for what a run will keep, told before its first step."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from ..memory import show
from ..memory.weights import optimizer_bytes, size_of
from ..objective.objective import Objective
from ..prompts import Prompt
from ..runs.checkpoints import KEEP, checkpoint_folders
from ..runs.rows import newest_step
from ..settings import TrainSettings
from .loop import SAMPLES

# Bytes of a step's record, as it is written: what it has once, for each reward, and for each pair of them.
_RECORD, _PER_REWARD, _PER_PAIR = 900, 300, 24
_PER_TOKEN = 5  # of a completion's text
_PROMPTS = 1000  # whose length is looked at
_MARGIN = 1.1  # configurations, states, and what a file system adds


def check_space(
    folder: Path,
    model: Any,
    prompts: Sequence[Prompt],
    objective: Objective,
    settings: TrainSettings,
) -> None:
    """Refuse a run that would fill the disk.

    Args:
        folder: The run's folder, which need not be there.
        model: Model with the trainable adapter on it.
        prompts: Prompts to train on.
        objective: The rewards and the method.
        settings: Settings of the training.

    Raises:
        TrainingError: Less is free than the run needs.
    """
    steps = settings.steps - newest_step(folder)
    if steps <= 0:
        return
    tensors = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adapter = sum(map(size_of, tensors))
    count = new_checkpoints(steps, settings.checkpoint_every, len(checkpoint_folders(folder)))
    checkpoints = count * (adapter + optimizer_bytes(settings.optimizer, tensors))
    records = steps * record_bytes(len(objective.rewards), prompts, settings)
    needed = int(_MARGIN * (checkpoints + adapter + records))
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise TrainingError(
            f"The run needs about {show(needed)} on the disk ({show(checkpoints)} for checkpoints, {show(adapter)} for the "
            f"adapter, {show(records)} for the records of {steps} steps), and {str(there)!r} has {show(free)} free; free "
            "some space, lower `lora_rank` or `steps`, or choose another output folder."
        )


def new_checkpoints(steps: int, every: int, there: int) -> int:
    """Return how many checkpoints there will be at most beside those that are there, at one time.

    Args:
        steps: Steps that are still to be made.
        every: Steps between checkpoints; the last step makes one in any case.
        there: Number of those that are there.
    """
    made = -(-steps // every)
    # A new one is written whole before the oldest one goes.
    return max(1, min(KEEP + 1, there + made) - there)


def record_bytes(rewards: int, prompts: Sequence[Prompt], settings: TrainSettings) -> float:
    """Return about how many bytes a step adds to the run's records, with completions of full length.

    Args:
        rewards: K, the number of rewards.
        prompts: Prompts to train on; some of them are looked at.
        settings: Settings of the training.
    """
    looked = prompts[:_PROMPTS]
    prompt = sum(len(one.text.encode()) for one in looked) / max(1, len(looked))
    sample = prompt + _PER_TOKEN * settings.max_new_tokens + 100 + 30 * rewards
    record = _RECORD + _PER_REWARD * rewards + _PER_PAIR * rewards**2
    return record + min(SAMPLES, settings.prompts_per_step) * sample
