"""What looks wrong is told while a training runs, and is kept in its folder."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from small_training import PROMPTS, SETTINGS, StopAt, objective

from gdpo.progress import Progress
from gdpo.runs.diagnosis import diagnose
from gdpo.runs.history import read_history
from gdpo.training.findings import FINDINGS_FILE
from gdpo.training.trainer import train

# Two tokens: no completion comes to its end.
SHORT = replace(SETTINGS, max_new_tokens=2)


class Told(Progress):
    """Keeps the notices."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def about_endings(told: Told) -> list[str]:
    return [text for text in told.notices if "of the completions are cut off" in text]


def test_a_finding_is_told_once_and_the_last_ones_are_in_the_folder(tiny_policy, tmp_path):
    told, folder = Told(), tmp_path / "run"
    train(tiny_policy, PROMPTS, objective(), SHORT, folder, progress=told)
    (line,) = about_endings(told)
    assert line.startswith("Step 5: 100% of the completions are cut off")
    kept = json.loads((folder / FINDINGS_FILE).read_text(encoding="utf-8"))
    found = diagnose(read_history(folder))
    assert kept["step"] == 6
    assert [one["text"] for one in kept["findings"]] == [one.text for one in found]
    assert kept["findings"][0]["check"] == "truncated"


def test_a_training_that_goes_on_tells_what_is_still_so(tiny_policy, tmp_path):
    folder, whole = tmp_path / "run", tmp_path / "whole"
    train(tiny_policy, PROMPTS, objective(), SHORT, whole)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_policy, PROMPTS, objective(), SHORT, folder, progress=StopAt(5))
    assert json.loads((folder / FINDINGS_FILE).read_text(encoding="utf-8"))["step"] == 5
    told = Told()
    train(tiny_policy, PROMPTS, objective(), SHORT, folder, progress=told)
    (line,) = about_endings(told)
    assert line.startswith("Step 6: 100% of the completions")
    assert (folder / FINDINGS_FILE).read_bytes() == (whole / FINDINGS_FILE).read_bytes()


def test_nothing_found_is_said_too(tiny_policy, tmp_path):
    train(tiny_policy, PROMPTS, objective(), replace(SHORT, steps=2), tmp_path / "run")
    kept = json.loads((tmp_path / "run" / FINDINGS_FILE).read_text(encoding="utf-8"))
    assert kept == {"step": 2, "findings": []}
