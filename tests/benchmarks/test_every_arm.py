"""Every arm of the convergence benchmark makes its steps: what it exchanges still fits the trainer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.convergence import world
from benchmarks.convergence.arms import ARMS
from benchmarks.convergence.runs import SETTINGS, Case, run
from gdpo.policies.loading import load_policy

STEPS = 4  # the weights are directed from the fourth on
SMALL = replace(SETTINGS, steps=STEPS, prompts_per_step=2, group_size=2, eval_every=STEPS)
LONG = [name for name in ARMS if name.endswith("900 steps")]  # other arms, for longer


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(world, "_STEPS", 3)  # it need not know its world
    folder = world.make_base(tmp_path_factory.mktemp("base") / "usual", "usual")
    patch.undo()
    return load_policy(folder, precision="fp32", device="cpu")


@pytest.mark.parametrize("arm", [name for name in ARMS if name not in LONG])
def test_an_arm_makes_its_steps(arm, policy):
    record = run(Case("support5", arm, "mis-set", 0), policy, SMALL)
    assert record["steps"] == [0, STEPS]
