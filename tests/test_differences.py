"""Why a run does not go on: the message names the setting, the file or the row."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace

import pytest
from conftest import make_model

from gdpo.errors import ExportError, TrainingError
from gdpo.libraries import needed
from gdpo.objective.objective import combine_rewards
from gdpo.policies.loading import load_policy
from gdpo.printable import printable
from gdpo.prompts import make_prompt
from gdpo.rewards import Conciseness, Keywords, Reward
from gdpo.runs.choose import choose_name
from gdpo.runs.differences import first_difference
from gdpo.runs.history import read_history
from gdpo.runs.run_file import describe_run, identify
from gdpo.settings import TrainSettings
from gdpo.training.trainer import train

PROMPTS = [make_prompt(f"the printer {number}") for number in range(5)]


def identity(policy, prompts=PROMPTS, reward=None, **settings):
    objective = combine_rewards([Reward("short", reward or Conciseness())])
    return identify(policy, prompts, PROMPTS[:1], objective, TrainSettings(**settings))


@pytest.fixture
def folder(tmp_path):
    return make_model(tmp_path / "model")


def load(folder):
    return load_policy(folder, device="cpu")


def test_equal_identities_have_no_difference(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "model")
    assert first_difference(identity(load(folder)), identity(load(moved))) == ""


def test_a_setting_a_row_and_an_option_are_named(folder):
    policy = load(folder)
    old, plain = identity(policy), identity(policy, optimizer="adamw")

    def changed(**options):
        return first_difference(old, identity(policy, **options))

    rate = first_difference(plain, identity(policy, optimizer="adamw", learning_rate=0.25))
    assert rate.startswith("another `learning_rate` (")
    assert rate.endswith("there, 0.25 here)")
    assert changed(step_size=0.25) == "another `step_size` (0.5 there, 0.25 here)"
    other = [*PROMPTS[:3], make_prompt("another"), PROMPTS[4]]
    assert changed(prompts=other) == "another `prompts` (row 4 is another one)"
    assert changed(prompts=PROMPTS[:2]) == "another `prompts` (5 rows there, 2 here)"
    longer = changed(reward=Conciseness(longest=99))
    assert longer == "another `rewards` (short.options.longest: 40 there, 99 here)"


def _edit(folder, name, **values):
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **values}))


@pytest.mark.parametrize("part", ["tokenizer", "template", "generation"])
def test_the_files_of_the_tokenizer_count_and_are_named(folder, part):
    old = identity(load(folder))
    if part == "tokenizer":
        content = json.loads((folder / "tokenizer.json").read_text())
        content["truncation"] = None
        (folder / "tokenizer.json").write_text(json.dumps({**content, "padding": None}, indent=9))
        name = "tokenizer.json"
    elif part == "template":
        named = folder / "chat_template.jinja"
        name = "chat_template.jinja" if named.is_file() else "chat_template"
        if named.is_file():
            named.write_text("{{ messages[0].content }}")
        else:
            _edit(folder, "tokenizer_config.json", chat_template="{{ messages[0].content }}")
    else:
        name = "generation_config.json"
        _edit(folder, name, eos_token_id=1)
    assert first_difference(old, identity(load(folder))).startswith(f"another `files` ({name}: ")
    del old["files"]  # as older versions wrote it
    assert first_difference(old, identity(load(folder))) == ""


def test_a_new_run_beside_another_one_says_why(folder, tmp_path):
    policy = load(folder)
    old = identity(policy)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text(json.dumps(describe_run(old, "model", None)))
    assert choose_name(tmp_path, "a", old, fresh=False) == ("a", "")
    name, why = choose_name(tmp_path, "a", identity(policy, prompts=PROMPTS[:2]), fresh=False)
    assert name == "a-2"
    assert why == "a does not go on: it has another `prompts` (5 rows there, 2 here)"
    _edit(tmp_path / "a", "run.json", format=99)
    assert "newer version" in choose_name(tmp_path, "a", old, fresh=False)[1]


def test_a_run_whose_run_json_is_gone_is_not_gone_on_with(folder, tmp_path):
    settings = TrainSettings(
        steps=1, prompts_per_step=1, group_size=2, max_new_tokens=2, lora_rank=1
    )
    objective = combine_rewards([Reward("short", Conciseness())])
    train(load(folder), PROMPTS, objective, settings, tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(TrainingError, match=r"run\.json is missing"):
        train(load(folder), PROMPTS, objective, replace(settings, steps=2), tmp_path / "run")


def test_a_training_that_cannot_move_stops_and_says_which_rewards_are_constant(folder, tmp_path):
    settings = TrainSettings(
        steps=30,
        prompts_per_step=1,
        group_size=50,
        max_new_tokens=1,
        lora_rank=1,
        checkpoint_every=50,
    )
    never = combine_rewards([Reward("never", Keywords(required="impossible word"))])
    for _ in range(2):  # started again it says the same
        with pytest.raises(
            TrainingError,
            match=r"Nothing can be learned: in the first 20 steps reward 'never' was 0 for every",
        ):
            train(load(folder), PROMPTS, never, settings, tmp_path / "run")
        assert len(read_history(tmp_path / "run")) == 20


def test_a_full_disk_is_one_line_and_the_run_goes_on_afterwards(folder, tmp_path, monkeypatch):
    """The disk is full where the file system says so: at the write of the second step's record."""
    from gdpo.runs import journal

    settings = TrainSettings(
        steps=3, prompts_per_step=1, group_size=2, max_new_tokens=2, lora_rank=1, checkpoint_every=1
    )
    objective = combine_rewards([Reward("short", Conciseness())])
    write, calls = journal.Journal._write, []

    def full(self, data):
        calls.append(self.file)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "_write", full)
        with pytest.raises(TrainingError, match=r"cannot be written .*No space left.*free space"):
            train(load(folder), PROMPTS, objective, settings, tmp_path / "run")
    train(load(folder), PROMPTS, objective, settings, tmp_path / "run")
    train(load(folder), PROMPTS, objective, settings, tmp_path / "other")
    names = ("completions.jsonl", "adapter/adapter_model.safetensors")
    for name in names:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_folder_that_is_deleted_in_mid_run_is_named(folder, tmp_path):
    from gdpo.progress import Progress

    class Delete(Progress):
        def record(self, record):
            shutil.rmtree(tmp_path / "run")

    settings = TrainSettings(
        steps=3, prompts_per_step=1, group_size=2, max_new_tokens=2, lora_rank=1, checkpoint_every=1
    )
    objective = combine_rewards([Reward("short", Conciseness())])
    with pytest.raises(TrainingError, match=r"cannot be written .*No such file.*restore the"):
        train(load(folder), PROMPTS, objective, settings, tmp_path / "run", progress=Delete())


def test_a_broken_library_is_named_with_the_remedy():
    with (
        pytest.raises(ExportError, match=r"needs pillow, which cannot be loaded .*force-reinstall"),
        needed("pillow", "It", ExportError),
    ):
        raise RuntimeError("version `GLIBC_9` not found")
    with (
        pytest.raises(ExportError, match=r"'no_such' is missing\): run `pip install pillow`"),
        needed("pillow", "It", ExportError),
    ):
        import no_such  # noqa: F401


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 日本\u3000語 \u200d", None),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("a\r\nb\u2028c\x85", r"a\r\nb\u2028c\x85"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_obeys_is_escaped(text, shown):
    expected = text if shown is None else shown
    assert printable(text) == expected
    assert printable(printable(text)) == expected
    assert str(TrainingError(text)) == expected


def test_lines_are_kept_where_they_are_wanted():
    assert printable("a\n\tb\r\x1b", lines=True) == "a\n\tb\\r\\x1b"


def test_the_programs_log_is_printable(capsys):
    from loaded_pack import submodule

    program = submodule("nodes.headless.program")
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", ("\x1b[2J",), None)
    assert program._Printable(printable).format(record) == r"\x1b[2J"
