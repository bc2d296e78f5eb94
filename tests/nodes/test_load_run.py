"""Load Run: an earlier training as a node, on its own base or on one that is loaded already."""

from __future__ import annotations

import json
import shutil

import pytest
from loaded_pack import PACK, call, submodule

history = submodule("gdpo.runs.history")
host = submodule("nodes.comfy.host")
errors = submodule("gdpo.errors")
loading = submodule("gdpo.policies.loading")
objectives = submodule("gdpo.objective.objective")
policies = submodule("gdpo.policies.policy")
prompts = submodule("gdpo.prompts")
rewards = submodule("gdpo.rewards")
rollouts = submodule("gdpo.rollouts")
settings = submodule("gdpo.settings")
trainer = submodule("gdpo.training.trainer")

ROWS = [prompts.make_prompt(f"the printer {n}") for n in range(2)]


def make_run(folders, model: str = "base", name: str = "run", steps: int = 2):
    """Train a model of models/LLM for a few steps."""
    policy = loading.load_policy(folders.models[0] / model, device="cpu")
    objective = objectives.combine_rewards([rewards.Reward("polite", rewards.Politeness())])
    chosen = settings.TrainSettings(
        steps=steps, prompts_per_step=1, group_size=4, max_new_tokens=4, lora_rank=1
    )
    return trainer.train(policy, ROWS, objective, chosen, folders.output / "gdpo" / name)


@pytest.fixture
def model(folders, tiny_folder):
    target = folders.models[0] / "base"
    shutil.copytree(tiny_folder, target)
    return target


def answers(policy) -> list[list[int]]:
    with policies.attached(policy) as attached:
        found = rollouts.sample(
            attached, policy.base.tokenizer, ROWS, max_new_tokens=6, temperature=0.0, seed=0
        )
    return found.completion_ids.tolist()


def test_a_run_is_opened_as_it_was_trained(folders, model):
    trained = make_run(folders)
    tuned, run, about = call("GDPOLoadRun", run="run", device="cpu")
    assert answers(tuned) == answers(trained.policy)
    assert run.folder == trained.folder
    assert about.splitlines()[0] == "run: 2 steps"
    assert "polite: " in about
    assert "lora_rank = 1" in about


def test_a_run_shares_the_base_that_is_linked(folders, model):
    make_run(folders)
    (base,) = call("GDPOLoadModel", model="base", device="cpu")
    tuned, _, _ = call("GDPOLoadRun", run="run", device="cpu", model=base)
    assert tuned.base is base.base
    assert tuned.adapter is not None


def test_another_base_is_refused(folders, model):
    make_run(folders)
    (starter,) = call("GDPOLoadModel", model="starter (bundled)", device="cpu")
    with pytest.raises(
        errors.TrainingError, match="is not the one that the run 'run' was trained on"
    ):
        call("GDPOLoadRun", run="run", device="cpu", model=starter)


def test_the_base_is_found_where_it_has_moved_to(folders, model):
    trained = make_run(folders)
    model.rename(folders.models[0] / "moved")
    with pytest.raises(errors.WorkflowError, match="is not below models/LLM"):
        call("GDPOLoadRun", run="run", device="cpu")
    (folders.models[0] / "deeper").mkdir()
    (folders.models[0] / "moved").rename(folders.models[0] / "deeper" / "base")
    tuned, _, _ = call("GDPOLoadRun", run="run", device="cpu")
    assert answers(tuned) == answers(trained.policy)


@pytest.mark.parametrize("source", ["/etc", "../../etc", "outside", "C:\\models", "", 5, "a\0b"])
def test_a_run_of_a_stranger_opens_no_folder_elsewhere(source, folders, model, monkeypatch):
    trained = make_run(folders)
    shutil.copytree(model, folders.output.parent / "outside")
    monkeypatch.chdir(folders.output.parent)
    file = trained.folder / "run.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "source": source}))
    with pytest.raises(errors.GDPOError):
        call("GDPOLoadRun", run="run", device="cpu")


def test_an_interrupted_run_is_opened_at_its_newest_checkpoint(folders, model):
    trained = make_run(folders)
    shutil.rmtree(trained.folder / "adapter")
    tuned, _, _ = call("GDPOLoadRun", run="run", device="cpu")
    assert answers(tuned) == answers(trained.policy)


def test_a_new_training_begins_where_the_run_ended(folders, model):
    make_run(folders)
    tuned, _, _ = call("GDPOLoadRun", run="run", device="cpu")
    objective = objectives.combine_rewards([rewards.Reward("polite", rewards.Politeness())])
    chosen = settings.TrainSettings(
        steps=1, prompts_per_step=1, group_size=4, max_new_tokens=4, lora_rank=1
    )
    further = trainer.train(tuned, ROWS, objective, chosen, folders.output / "gdpo" / "further")
    records = history.read_history(further.folder)
    assert records[-1]["step"] == 1


def test_without_a_run_the_menu_says_so(folders):
    assert PACK.NODE_CLASS_MAPPINGS["GDPOLoadRun"].INPUT_TYPES()["required"]["run"][0] == [
        "(no run yet)"
    ]
    with pytest.raises(errors.WorkflowError, match="no saved run yet"):
        call("GDPOLoadRun", run="(no run yet)", device="cpu")


@pytest.mark.parametrize("name", ["../x", "", "x" * 500, "nul", ["a"], 5])
def test_what_is_no_run_is_refused(name, folders, model):
    make_run(folders)
    with pytest.raises(errors.WorkflowError):
        call("GDPOLoadRun", run=name, device="cpu")
    assert isinstance(PACK.NODE_CLASS_MAPPINGS["GDPOLoadRun"].IS_CHANGED(run=name), str)
