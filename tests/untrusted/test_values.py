"""Numbers, types and texts that no input is meant for are refused with one line."""

from __future__ import annotations

import math

import pytest
import torch
from fence import STARTER, TINY, call, refused
from loaded_pack import submodule

policies = submodule("gdpo.policies.policy")

VALUES = {
    "a thousand million steps": {"steps": 10**9},
    "negative steps": {"steps": -1},
    "steps beyond all numbers": {"steps": 10**5000},
    "text for steps": {"steps": "5"},
    "fraction of a step": {"steps": 1.5},
    "truth for steps": {"steps": True},
    "NaN steps": {"steps": math.nan},
    "tensor for steps": {"steps": torch.tensor(5)},
    "list for steps": {"steps": [5]},
    "infinite rate": {"learning_rate": math.inf},
    "NaN rate": {"learning_rate": math.nan},
    "text for the rate": {"learning_rate": "1e-4"},
    "negative temperature": {"temperature": -1.0},
    "temperature of 0": {"temperature": 0.0},
    "endless completions": {"max_new_tokens": 10**9},
    "groups of a million": {"group_size": 10**6},
    "groups of one": {"group_size": 1},
    "no micro-batch": {"micro_batch": 0},
    "rank of a million": {"lora_rank": 10**6},
    "unknown optimiser": {"optimizer": "__import__('os').system('true')"},
    "unknown switch": {"existing_run": "delete"},
    "text for a truth": {"gradient_checkpointing": "false"},
    "number for a name": {"run_name": 5.5},
    "bytes for a name": {"run_name": b"a"},
    "model that is a path": {"model": "/etc/passwd"},
    "model that is a class": {"model": policies.Policy},
    "prompts that are a list": {"prompts": ["x"]},
    "prompts that are texts": {"prompts": ("x",)},
    "rewards that are a dict": {"rewards": {"rewards": ()}},
    "held-out that is a model": {"heldout": object()},
}


@pytest.mark.parametrize("case", VALUES)
def test_linked_value_that_does_not_fit_is_refused(case, fence, parts):
    inputs = {**parts, "run_name": "a", **TINY, **VALUES[case]}
    if case == "number for a name":  # the host turns numbers into text, and this is a plain name
        assert call("GDPOTrain", **inputs)["result"][1].folder.name == "5.5"
        return
    refused(lambda: call("GDPOTrain", **inputs), f"input '{next(iter(VALUES[case]))}'")
    assert list(fence.folders.output.iterdir()) == []


def test_gigabyte_of_text_is_refused_before_anything_looks_at_it(fence, starter):
    # One text of 256 million characters; Python's own limits would take it further.
    huge = "a" * (256 * 2**20)
    refused(lambda: call("GDPOLoadModel", model=STARTER, hub_model=huge), "at most 1000000")
    refused(lambda: call("GDPODefineRewardKeywords", name="k", required=huge), "at most 1000000")
    refused(lambda: call("GDPODefineRewardPoliteness", name=huge), "at most 1000000")
    few = "a" * 999_999
    refused(lambda: call("GDPODefineRewardKeywords", name="k", required=few), "at most 20000")


def test_workflow_that_is_nested_too_deeply_to_be_kept_is_refused(fence, parts):
    deep: dict = {}
    for _ in range(5000):
        deep = {"x": deep}
    refused(
        lambda: call("GDPOTrain", **parts, run_name="a", workflow=deep, **TINY), "nested too deeply"
    )


def test_gguf_input_takes_no_path(fence):
    for value in (str(fence.outside / "secret.txt"), fence.outside / "secret.txt", {"path": "x"}):
        refused(lambda: call("GDPOChat", gguf=value, message="x"), "input 'gguf'")  # noqa: B023
