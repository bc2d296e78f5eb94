"""Loading: models of the menu and of the hub, prompts of files and texts."""

from __future__ import annotations

import pytest
from loaded_pack import PACK, call, submodule

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


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc", "C:\\models", "a/b/c", ".", "org/..", "https://x.org/m", "~/m", "a b", "-x"],
)
def test_hub_model_that_is_a_path_is_refused(name, folders):
    with pytest.raises(errors.WorkflowError, match="hub_model is neither"):
        call("GDPOLoadModel", model="starter (bundled)", hub_model=name)


def test_hub_model_cannot_name_a_folder_of_the_working_directory(folders, tmp_path, monkeypatch):
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.WorkflowError, match="hub_model is neither"):
        call("GDPOLoadModel", model="starter (bundled)", hub_model="org/model")


def test_nothing_is_downloaded_unless_the_owner_allows_it(folders, monkeypatch):
    monkeypatch.delenv(host.DOWNLOAD_SWITCH, raising=False)
    with pytest.raises(errors.PolicyError, match="downloads are switched off"):
        call("GDPOLoadModel", model="starter (bundled)", hub_model="no-such-org/no-such-model")


def test_model_of_the_menu_is_loaded_from_its_folder(folders, tiny_folder):
    (folders.models[0] / "org").mkdir()
    (folders.models[0] / "org" / "tiny").symlink_to(tiny_folder)
    for choice in ({"model": "org/tiny"}, {"model": "starter (bundled)", "hub_model": "org/tiny"}):
        (policy,) = call("GDPOLoadModel", device="cpu", **choice)
        assert policy.base.source == str(folders.models[0] / "org" / "tiny")


def test_prompts_of_the_input_folder_and_bundled_ones_are_loaded(folders):
    (folders.inputs / "mine.csv").write_text("question,answer\nWhy?,Because\nHow?,So\n")
    (mine,) = call("GDPOLoadPrompts", file="mine.csv", prompt_column="question", system="Be kind")
    assert [prompt.text for prompt in mine] == ["Why?", "How?"]
    assert mine[0].messages[0] == ("system", "Be kind")
    assert mine[0].fields["answer"] == "Because"
    (bundled,) = call("GDPOLoadPrompts", file="support desk: held-out", limit=3)
    assert len(bundled) == 3


def test_the_node_tells_of_a_column_that_was_not_named(folders, caplog):
    (folders.inputs / "mine.csv.txt").write_text("question;answer\nWhy?;Because\n")
    (mine,) = call("GDPOLoadPrompts", file="mine.csv.txt")
    assert [prompt.text for prompt in mine] == ["Why?"]
    assert "has no column 'prompt': the prompts are taken from 'question'" in caplog.text


def test_changed_prompt_file_is_noticed(folders):
    path = folders.inputs / "mine.txt"
    path.write_text("a")
    node_class = NODES["GDPOLoadPrompts"]
    before = node_class.IS_CHANGED(file="mine.txt", limit=0)
    import os

    os.utime(path, (1, 1))
    assert node_class.IS_CHANGED(file="mine.txt", limit=0) != before
    assert node_class.IS_CHANGED(file=None) == node_class.IS_CHANGED(file="gone.txt") == 0.0


@pytest.mark.parametrize("name", ["other.txt", "../secret.txt", "/etc/passwd"])
def test_prompt_file_that_is_not_listed_is_refused(name, folders, tmp_path):
    (tmp_path / "secret.txt").write_text("x")
    with pytest.raises(errors.WorkflowError, match="is not one of"):
        call("GDPOLoadPrompts", file=name)
