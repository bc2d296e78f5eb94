"""What looks wrong with a training stands in what `run.py workflow` prints and logs."""

from __future__ import annotations

import json

from loaded_pack import submodule
from node_training import TINY

commands = submodule("nodes.headless.commands")


def test_the_end_of_a_workflow_says_what_looks_wrong(folders, tmp_path, caplog):
    settings = {**TINY, "steps": 5, "max_new_tokens": 1}
    graph = {
        "1": {"class_type": "GDPOLoadModel", "inputs": {"model": "starter (bundled)", "device": "cpu"}},
        "2": {"class_type": "GDPOLoadPrompts", "inputs": {"file": "support desk: train", "limit": 4}},
        "3": {"class_type": "GDPODefineRewardPoliteness", "inputs": {"name": "polite"}},
        "4": {"class_type": "GDPOCombineRewards", "inputs": {"reward_1": ["3", 0], "method": "gdpo", "weighting": "fixed", "dispersion_floor": 0.0}},
        "5": {
            "class_type": "GDPOTrain",
            "inputs": {"model": ["1", 0], "prompts": ["2", 0], "rewards": ["4", 0], "run_name": "a", **settings},
        },
    }  # fmt: skip
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(graph), encoding="utf-8")
    shown = commands.run_file(file, [])
    assert "! 100% of the completions are cut off by the token limit" in shown
    assert caplog.text.count("Step 5: 100% of the completions are cut off") == 1
