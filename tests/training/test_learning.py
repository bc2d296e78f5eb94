"""A training that visibly learns: the quick-start's rewards on the bundled starter model."""

from __future__ import annotations

import json
from pathlib import Path

from loaded_pack import PACK, submodule

STEPS = 10
# Smaller and larger steps than the quick start's, which reach as far in a tenth of the time.
CHANGED = {
    "3": {"limit": 64},
    "8": {
        "steps": STEPS,
        "eval_every": STEPS,
        "prompts_per_step": 4,
        "learning_rate": 0.005,
        "warmup_steps": 2,
    },
}
# Rewards are means over 64 held-out prompts; their standard errors are at most 0.0625.
MARGIN = 0.1


def test_all_rewards_of_the_quick_start_rise_on_held_out_prompts(tmp_path):
    graph = json.loads((Path(__file__).parents[2] / "workflows/quick_start.json").read_text())
    needed = {
        "GDPOLoadModel",
        "GDPOLoadPrompts",
        "GDPOCombineRewards",
        "GDPOTrain",
        "GDPOPlotConvergence",
    }
    part = {
        key: {**node, "inputs": {**node["inputs"], **CHANGED.get(key, {})}}
        for key, node in graph.items()
        if node["class_type"] in needed or node["class_type"].startswith("GDPODefineReward")
    }
    host, workflow = submodule("nodes.comfy.host"), submodule("nodes.headless.workflow")
    host.configure(host.Folders(tmp_path, tmp_path, (tmp_path,)))
    outcomes = workflow.run_workflow(part, PACK.NODE_CLASS_MAPPINGS)
    run = next(o for o in outcomes.values() if o.class_type == "GDPOTrain").outputs[1]

    records = submodule("gdpo.runs.history").read_history(run.folder)
    first, last = (r["eval"] for r in records if "eval" in r)
    for name, before in first["rewards"].items():
        assert last["rewards"][name]["mean"] >= before["mean"] + MARGIN, name
    assert last["length"]["std"] < first["length"]["std"]
    assert (run.folder / "convergence.png").stat().st_size > 10_000
