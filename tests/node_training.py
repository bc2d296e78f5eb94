"""The smallest training by the training's node."""

from __future__ import annotations

from loaded_pack import call, submodule

history = submodule("gdpo.runs.history")

TINY = {"steps": 2, "prompts_per_step": 1, "group_size": 2, "max_new_tokens": 4, "lora_rank": 2}


def train(**inputs):
    """The run's folder name and its record."""
    given = call("GDPOTrain", **inputs)
    run = given["result"][1]
    assert run.folder.name in given["ui"]["text"][0]
    return run.folder.name, history.read_history(run.folder)
