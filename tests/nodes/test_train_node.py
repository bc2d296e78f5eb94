"""Rewards and trainings by their nodes, on the bundled model."""

from __future__ import annotations

import json

import pytest
import torch
from loaded_pack import call, submodule

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


def train(**inputs):
    """Train, and give the tuned policy and the run."""
    return call("GDPOTrain", **inputs)["result"]


def reward(kind="Politeness", **inputs):
    return call(f"GDPODefineReward{kind}", **{"name": kind.lower(), **inputs})[0]


def test_reward_node_passes_its_options_to_the_scorer():
    made = reward(
        "Conciseness", name="short", preference=2.0, target=0.8, longest=12, unit="tokens"
    )
    assert made.name == "short"
    assert (made.preference, made.target) == (2.0, 0.8)
    assert (made.scorer.longest, made.scorer.unit) == (12, "tokens")


def test_gate_is_passed_with_its_threshold():
    gated = reward("Conciseness", gate=reward("Politeness"), gate_threshold=0.25)
    assert gated.gate.name == "politeness"
    assert gated.gate_threshold == 0.25
    assert reward("Conciseness", gate_threshold=0.25).gate is None


def test_combined_rewards_keep_the_order_of_their_sockets_and_allow_gaps():
    names = {f"reward_{number}": reward(name=f"r{number}") for number in (10, 2, 1)}
    (objective,) = call(
        "GDPOCombineRewards", method="grpo", weighting="fixed", dispersion_floor=0.5, **names
    )
    assert [one.name for one in objective.rewards] == ["r1", "r2", "r10"]
    assert (objective.method.name, objective.weighting.name, objective.dispersion_floor) == (
        "grpo",
        "fixed",
        0.5,
    )


@pytest.fixture(scope="module")
def parts():
    """A loaded starter model, two prompts and an objective."""
    (policy,) = call("GDPOLoadModel", model="starter (bundled)", device="cpu")
    (few,) = call("GDPOLoadPrompts", file="support desk: train", limit=2)
    (objective,) = call(
        "GDPOCombineRewards",
        reward_1=reward("Politeness"),
        # Characters, so that even completions of a few tokens differ and there is something to learn.
        reward_2=reward("Conciseness", unit="characters", shortest=0, longest=1, tolerance=100),
        method="gdpo",
        weighting="directed",
        dispersion_floor=0.7,
    )
    return {"model": policy, "prompts": few, "rewards": objective}


TINY = {"steps": 2, "prompts_per_step": 1, "group_size": 2, "max_new_tokens": 4, "lora_rank": 2}


def test_training_under_inference_mode_leaves_its_input_alone(parts, folders):
    weights = {
        name: value.clone() for name, value in parts["model"].base.model.state_dict().items()
    }
    with torch.inference_mode():
        tuned, run = train(**parts, run_name="a", unique_id="../../x", workflow={}, **TINY)
    assert parts["model"].adapter is None
    after = parts["model"].base.model.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert tuned.base is parts["model"].base
    assert any(
        value.abs().sum() > 0 for name, value in tuned.adapter.state.items() if "lora_B" in name
    )
    assert run.folder == (folders.output / "gdpo" / "a").resolve()
    assert [path.name for path in folders.output.iterdir()] == ["gdpo"]


def test_a_reward_that_can_score_no_prompt_is_refused_before_the_first_step(parts, folders):
    (objective,) = call(
        "GDPOCombineRewards",
        reward_1=reward("AnswerMatch", field="solution"),
        method="gdpo",
        weighting="directed",
        dispersion_floor=0.7,
    )
    with pytest.raises(errors.RewardError, match=r"none of the 2 prompts.*'solution'.*'reference'"):
        train(**{**parts, "rewards": objective}, run_name="none", **TINY)
    assert not (folders.output / "gdpo" / "none").exists()


def test_equal_training_of_the_same_name_gives_the_finished_run(parts, folders):
    first, run = train(**parts, run_name="a", unique_id="1", **TINY)
    history = (run.folder / "history.jsonl").read_text()
    second, again = train(**parts, run_name="a", unique_id="2", **TINY)
    assert again.folder == run.folder
    assert (run.folder / "history.jsonl").read_text() == history
    state = second.adapter.state
    assert all(torch.equal(value, state[name]) for name, value in first.adapter.state.items())


def test_stop_keeps_the_work_and_the_same_training_goes_on(parts, folders, monkeypatch):
    polls = iter(range(10**6))
    monkeypatch.setattr(progress, "stop_requested", lambda: next(polls) > 100)
    with pytest.raises(progress.Stopped):
        train(**parts, run_name="a", **{**TINY, "steps": 50})
    monkeypatch.undo()
    host.configure(folders)
    _, run = train(**parts, run_name="a", **{**TINY, "steps": 3})
    steps = [
        json.loads(line)["step"] for line in (run.folder / "history.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(set(steps))
    assert steps[-1] == 3


def test_plot_gives_an_image_and_a_file_that_the_page_can_show(parts, folders):
    _, run = train(**parts, run_name="a", **TINY)
    given = call("GDPOPlotConvergence", run=run)
    (image,) = given["result"]
    assert image.dtype == torch.float32
    assert image.shape[0] == 1
    assert image.shape[3] == 3
    assert 0 <= image.min() <= image.max() <= 1
    assert given["ui"]["images"] == [
        {"filename": "convergence.png", "subfolder": "gdpo/a", "type": "output"}
    ]
    assert (folders.output / "gdpo" / "a" / "convergence.png").read_bytes().startswith(b"\x89PNG")
