"""The guard refuses with one line, and nothing harmful reaches the page."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from loaded_pack import PACK, submodule

from gdpo.to_json import to_json

host = submodule("nodes.comfy.host")
progress = submodule("nodes.comfy.progress")
paths = submodule("nodes.checks.paths")
guard = submodule("nodes.checks.guard")
values = submodule("nodes.checks.values")
validation = submodule("nodes.checks.validation")
commands = submodule("nodes.headless.commands")
workflow = submodule("nodes.headless.workflow")
workflow_file = submodule("nodes.headless.workflow_file")
errors = submodule("gdpo.errors")
rewards = submodule("gdpo.rewards")
prompts = submodule("gdpo.prompts")

NODES = PACK.NODE_CLASS_MAPPINGS


class Probe:
    FUNCTION = "look"
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"size": ("INT", {"min": 1, "max": 9})},
            "optional": {
                "rate": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}),
                "label": ("STRING", {"default": "x"}),
                "mode": (["a", "b"], {"default": "a"}),
                "model": ("GDPO_MODEL", {}),
                "prompts": ("GDPO_PROMPTS", {}),
                "reward": ("GDPO_REWARD", {}),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    @guard.guarded
    def look(self, **inputs):
        return inputs, torch.is_inference_mode_enabled(), torch.ones(2, requires_grad=True) * 2


def test_guard_leaves_inference_mode():
    with torch.inference_mode():
        _, inside, made = Probe().look(size=1)
        assert torch.is_inference_mode_enabled()
    assert inside is False
    assert not made.is_inference()
    made.sum().backward()


def test_guard_fills_in_defaults_and_drops_what_is_not_declared():
    given, _, _ = Probe().look(size=2.0, unique_id="7", label=None, stray=1)
    assert given == {"size": 2, "rate": 0.5, "label": "x", "mode": "a", "unique_id": "7"}


REFUSED = {
    "missing": ({"size": ...}, "is required"),
    "linked text": ({"size": "3"}, "must be a whole number"),
    "linked value past its range": ({"size": 10**9}, "above the maximum 9"),
    "NaN": ({"rate": math.nan}, "must be a finite number"),
    "linked menu": ({"mode": "c"}, "is not one of: a, b"),
    "tensor for a number": ({"rate": torch.tensor(0.5)}, "must be a number"),
    "text for a model": ({"model": "gpt"}, "needs a GDPO_MODEL .* found a value of type 'str'"),
    "prompts for a model": ({"model": ()}, "needs a GDPO_MODEL"),
    "no prompts": ({"prompts": ()}, "needs a GDPO_PROMPTS"),
    "texts for prompts": ({"prompts": ("a",)}, "needs a GDPO_PROMPTS"),
    "class for a reward": ({"reward": object}, "needs a GDPO_REWARD"),
    "bytes for a text": ({"label": b"x"}, "must be text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_guard_refuses_with_one_line_naming_the_input(case):
    changed, message = REFUSED[case]
    inputs = {name: value for name, value in {"size": 1, **changed}.items() if value is not ...}
    with pytest.raises(errors.WorkflowError, match=message) as caught:
        Probe().look(**inputs)
    assert str(caught.value).startswith(f"input {next(iter(changed))!r}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_every_node_function_is_guarded():
    for node_id in NODES:
        node_class = NODES[node_id]
        assert getattr(node_class, node_class.FUNCTION).__wrapped__, node_id


def test_json_holds_nothing_that_ends_a_server():
    numpy = pytest.importorskip("numpy")
    found = to_json({
        1: torch.tensor([1.0, math.nan]),
        "scalar": numpy.float32(0.5),
        "count": numpy.int64(3),
        "array": numpy.array([[math.inf, 1.0]]),
        "truth": numpy.bool_(True),
        "nested": [(1, 2), {"x": -math.inf}],
        "path": Path("a") / "b",
        "none": None,
    })
    assert found == {
        "1": [1.0, None],
        "scalar": 0.5,
        "count": 3,
        "array": [[None, 1.0]],
        "truth": True,
        "nested": [[1, 2], {"x": None}],
        "path": str(Path("a") / "b"),
        "none": None,
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found
