"""Files and folders that are replaced: whole or not at all."""

from __future__ import annotations

import contextlib

import pytest

from gdpo.atomic import replacing_file, replacing_folder, write_atomically
from gdpo.to_json import to_json


class Broken(Exception):
    """What goes wrong in the middle of writing."""


@pytest.mark.parametrize("content", ["text with an ä\n", b"\x00bytes\r\n"])
def test_a_file_holds_what_was_written_and_nothing_else_is_left(tmp_path, content):
    file = tmp_path / "file"
    file.write_bytes(b"a longer content that was there before")
    write_atomically(file, content)
    assert file.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_stays_as_it_was_when_writing_fails(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"before")
    with contextlib.suppress(Broken), replacing_file(file) as stream:
        stream.write(b"half of it")
        raise Broken
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_takes_the_place_of_the_old_one_with_all_its_files(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "old").write_text("old")
    torn = tmp_path / ".made.tmp"
    torn.mkdir()
    (torn / "torn").write_text("of a process that was killed")
    with replacing_folder(folder) as made:
        (made / "below").mkdir()
        (made / "below" / "new").write_text("new")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "made",
        "made/below",
        "made/below/new",
    ]


def test_a_folder_stays_as_it_was_when_writing_fails(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "old").write_text("old")
    with contextlib.suppress(Broken), replacing_folder(folder) as made:
        (made / "new").write_text("new")
        raise Broken
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (folder / "old").read_text() == "old"


def test_sets_and_enumerations_become_the_json_of_an_adapters_configuration():
    from peft import LoraConfig

    config = to_json(LoraConfig(target_modules={"v_proj", "q_proj"}).to_dict())
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert type(config["peft_type"]) is str
    assert config["peft_type"] == "LORA"
