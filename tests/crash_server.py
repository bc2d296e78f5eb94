"""Trains a tiny model in forked processes that die on request: `crash_server.py MODEL_FOLDER`.

Each line of the standard input is an order, JSON with the fields of `Order`; each line of the output says how the
training ended. The libraries are loaded and the model is read once, so that a training takes a second.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

OK, REFUSED, BROKEN = 0, 3, 4
# What Python reports before it changes a file system.
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}


@dataclass(frozen=True)
class Order:
    """One training.

    Attributes:
        folder: Of the run.
        steps: How many to make in all.
        optimizer: Name of the optimiser.
        operation: Which change of a file it is killed before; 0: none.
        seconds: After how long it is killed; 0: never.
        power: "" or how the power fails at `operation`: "names kept" or "names lost".
    """

    folder: str
    steps: int = 4
    optimizer: str = "adamw"
    operation: int = 0
    seconds: float = 0.0
    power: str = ""


def main(model: Path) -> None:
    """Carry out the orders of the standard input."""
    import torch

    torch.set_num_threads(1)  # a process with a pool of threads cannot be forked
    logging.disable(logging.CRITICAL)
    import bitsandbytes.optim  # noqa: F401 - what a training imports is imported once
    import peft  # noqa: F401
    import torchjd  # noqa: F401

    from gdpo.policies.loading import load_policy
    from gdpo.policies.policy import trainable
    from gdpo.training import trainer

    policy = load_policy(model, device="cpu")
    # The tokenizer is the tests' own. A stranger's would be used in a process of its own, one for each training.
    del policy.base.tokenizer.gdpo_files
    with trainable(policy, rank=4, alpha=4, seed=0):  # and what an adapter needs
        pass
    for line in sys.stdin:
        order = Order(**json.loads(line))
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _train(trainer.train, policy, order, writer)
        os.close(writer)
        if order.seconds:
            time.sleep(order.seconds)
            os.kill(child, signal.SIGKILL)
        with os.fdopen(reader, encoding="utf-8") as stream:
            message = stream.read()
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        sys.stdout.write(json.dumps({"code": code, "message": message}) + "\n")
        sys.stdout.flush()


def _train(train, policy, order: Order, writer: int) -> None:
    from gdpo.errors import GDPOError

    code = OK
    try:
        if order.power:
            from failing_disk import FailingDisk

            FailingDisk(Path(order.folder), order.operation, order.power).install()
        elif order.operation:
            _kill_before(order.folder, order.operation)
        train(policy, *arguments(order), heldout=PROMPTS[:2])
    except GDPOError as error:
        code = REFUSED
        os.write(writer, str(error).encode())
    except BaseException as error:  # noqa: BLE001 - whatever it is, the test should see it
        code = BROKEN
        os.write(writer, repr(error).encode())
    os._exit(code)


def _kill_before(folder: str, operation: int) -> None:
    left = [operation]

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            changes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        else:
            changes = event in _CHANGES
        if changes and str(arguments[0]).startswith(folder):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _prompts():
    from gdpo.prompts import Prompt

    return [Prompt((("user", f"the printer {i}"),), {}) for i in range(3)]


def arguments(order: Order):
    """Prompts, objective, settings and folder of the training."""
    from gdpo.objective.objective import combine_rewards
    from gdpo.rewards import Conciseness, Keywords, Reward
    from gdpo.settings import TrainSettings

    short = Conciseness(unit="characters", shortest=0, longest=3)
    rewards = [Reward("short", short), Reward("has e", Keywords(required="e"))]
    settings = TrainSettings(
        steps=order.steps,
        prompts_per_step=1,
        group_size=3,
        max_new_tokens=4,
        learning_rate=1e-2,
        lora_rank=4,
        eval_every=2,
        checkpoint_every=2,
        optimizer=order.optimizer,
    )
    if order.optimizer == "adamw_8bit":  # smaller tensors keep a state of 32 bits
        settings = replace(settings, lora_rank=64)
    return PROMPTS, combine_rewards(rewards), settings, Path(order.folder)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
    PROMPTS = _prompts()
    main(Path(sys.argv[1]))
