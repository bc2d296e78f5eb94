"""Names and paths stay inside of the host's folders."""

from __future__ import annotations

import pytest
from loaded_pack import PACK, submodule

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
    "name", ["run", "run-2", "Qwen2.5 0.5B", "支援デスク", "a", " spaces around "]
)
def test_plain_names_are_taken(name, folders):
    assert paths.resolve_output(name) == (folders.output / "gdpo" / name.strip()).resolve()


BAD_NAMES = [
    *("", " ", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "C:\\x", "c:x", "\\\\host\\share"),
    *(
        "a\0b",
        "a\nb",
        "a\x1bb",
        "a\u202eb",
        "~",
        "~/x",
        "$HOME",
        "%TEMP%",
        "a*b",
        'a"b',
        "a|b",
        "a<b>",
    ),
    *(
        "CON",
        "nul",
        "com1",
        "LPT9.txt",
        "aux.tar.gz",
        "nul .x",
        "CON .txt",
        "COM¹",
        "conin$",
        "a.",
        "a. ",
        ".hidden",
        "-rf",
    ),
    *("x" * 81, "支" * 61, "\ud800", "x\u2028y", "a?b", "a:b"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_leave_the_folder_or_break_a_file_system_are_refused(name, folders):
    with pytest.raises(errors.WorkflowError, match=r"^run_name ") as caught:
        paths.resolve_output(name, what="run_name")
    assert len(str(caught.value).splitlines()) == 1
    assert list(folders.output.iterdir()) == []


def test_symlink_out_of_the_output_folder_is_refused(folders, tmp_path):
    (folders.output / "gdpo").mkdir()
    (folders.output / "gdpo" / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.WorkflowError, match="leads out of the output folder"):
        paths.resolve_output("run")


def test_train_and_export_check_their_names_before_anything_runs():
    assert NODES["GDPOTrain"].VALIDATE_INPUTS(run_name="good") is True
    assert NODES["GDPOTrain"].VALIDATE_INPUTS(run_name=None) is True
    assert "is not a plain name" in NODES["GDPOTrain"].VALIDATE_INPUTS(run_name="../x")
    assert NODES["GDPOExportGGUF"].VALIDATE_INPUTS(name=" ") is True
    assert "Windows reserves" in NODES["GDPOExportGGUF"].VALIDATE_INPUTS(name="nul")


def test_model_folders_are_listed_once_each(folders):
    for name in ("org/good", "plain", "org/good/checkpoint-1", "too/deep/for/us"):
        (folders.models[0] / name).mkdir(parents=True)
        (folders.models[0] / name / "config.json").write_text("{}")
    (folders.models[0] / "no-model").mkdir()
    (folders.models[0] / "file.gguf").touch()
    assert list(paths.list_models()) == ["file.gguf", "org/good", "plain"]
    assert NODES["GDPOLoadModel"].INPUT_TYPES()["required"]["model"][0][1:] == [
        "file.gguf",
        "org/good",
        "plain",
    ]


def test_prompt_files_are_listed_but_not_through_symlinks_that_lead_out(folders, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "more.txt").write_text("secret")
    (folders.inputs / "sub").mkdir()
    for name in (
        "a.txt",
        "b.JSONL",
        "sub/c.csv",
        "d.json",
        "e.jsonl.txt",
        "f.tsv",
        "picture.png",
        ".hidden.txt",
    ):
        (folders.inputs / name).write_text("x")
    (folders.inputs / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folders.inputs / "inside.txt").symlink_to(folders.inputs / "a.txt")
    (folders.inputs / "folder").symlink_to(tmp_path / "outside")
    listed = ["a.txt", "b.JSONL", "d.json", "e.jsonl.txt", "f.tsv", "inside.txt", "sub/c.csv"]
    assert list(paths.list_prompt_files()) == listed


def test_absent_folders_give_empty_lists(tmp_path):
    host.configure(host.Folders(tmp_path / "o", tmp_path / "i", (tmp_path / "m",)))
    try:
        assert paths.list_models() == {}
        assert paths.list_prompt_files() == {}
    finally:
        host.configure(None)
