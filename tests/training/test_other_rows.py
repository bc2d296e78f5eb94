"""A run goes on when rows that it has not used are repaired, removed or added, and says so in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from small_training import PROMPTS, SETTINGS, LetterShare, assert_same_run, objective

from gdpo.errors import RewardError, TrainingError
from gdpo.objective.objective import combine_rewards
from gdpo.policies.loading import load_policy
from gdpo.progress import Progress
from gdpo.prompts import make_prompt
from gdpo.rewards.reward import Reward
from gdpo.runs.choose import choose_name
from gdpo.runs.history import read_history
from gdpo.runs.run_file import identify
from gdpo.training.schedule import draw
from gdpo.training.trainer import train

ROWS = [make_prompt(f"the router {i}", line=i + 1) for i in range(12)]
LONG = replace(SETTINGS, steps=6, checkpoint_every=1)  # two rows a step: all twelve, once
FIRST = 3  # steps before the rows change


class Told(Progress):
    """Keeps the notices, and stops after a step."""

    def __init__(self, stop: int = 0) -> None:
        self.notices, self._stop = [], stop

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def record(self, record: dict) -> None:
        if record["step"] == self._stop:
            raise KeyboardInterrupt

    def about_rows(self) -> list[str]:
        return [text for text in self.notices if "other rows" in text]


def used(steps: int) -> set[str]:
    return {
        prompt.text
        for step in range(1, steps + 1)
        for prompt in draw(ROWS, SETTINGS.prompts_per_step, step, SETTINGS.rng_seed)
    }


def stopped(policy, folder, rows=ROWS, **options) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(policy, rows, objective(), LONG, folder, progress=Told(FIRST), **options)


def unused() -> list[int]:
    return [place for place, row in enumerate(ROWS) if row.text not in used(FIRST)]


def sampled(folder) -> list[tuple[int, str]]:
    lines = (folder / "completions.jsonl").read_text().splitlines()
    return [(record["step"], record["prompt"]) for record in map(json.loads, lines)]


def test_a_repaired_row_goes_on_to_the_very_run_of_the_repaired_file(tiny_policy, tmp_path):
    rows = list(ROWS)
    rows[unused()[0]] = make_prompt("the printer, repaired")
    stopped(tiny_policy, tmp_path / "run")
    told = Told()
    train(tiny_policy, rows, objective(), LONG, tmp_path / "run", progress=told)
    train(tiny_policy, rows, objective(), LONG, tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    (line,) = told.about_rows()
    number = unused()[0] + 1
    assert line == (
        f"The run 'run' goes on with other rows: row {number} of before is gone, row {number} of today is new; "
        "all 6 that it has used are among them."
    )


def test_removed_and_added_rows_go_on_and_every_row_of_today_is_drawn_once(tiny_policy, tmp_path):
    gone = {ROWS[place].text for place in unused()[:2]}
    rows = [make_prompt("a new one"), *(row for row in ROWS if row.text not in gone)]
    rows.append(make_prompt("another new one"))
    stopped(tiny_policy, tmp_path / "run")
    before = sampled(tmp_path / "run")
    told = Told()
    train(tiny_policy, rows, objective(), LONG, tmp_path / "run", progress=told)
    after = sampled(tmp_path / "run")
    assert after[: len(before)] == before
    assert sorted(text for _, text in after) == sorted(row.text for row in rows)
    assert len(told.about_rows()) == 1


def test_it_goes_on_again_as_if_nothing_had_happened(tiny_policy, tmp_path):
    """Stopped once more after the change: the same result, and nothing more is told."""
    rows = [row for place, row in enumerate(ROWS) if place != unused()[1]]
    for name, stop in (("once", 0), ("twice", FIRST + 1)):
        stopped(tiny_policy, tmp_path / name)
        if stop:
            with pytest.raises(KeyboardInterrupt):
                train(tiny_policy, rows, objective(), LONG, tmp_path / name, progress=Told(stop))
        told = Told()
        train(tiny_policy, rows, objective(), LONG, tmp_path / name, progress=told)
        assert len(told.about_rows()) == (0 if stop else 1)
    assert_same_run(tmp_path / "twice", tmp_path / "once")


def test_a_damaged_checkpoint_after_the_change_is_made_again_from_the_same_rows(
    tiny_policy, tmp_path
):
    rows = [row for place, row in enumerate(ROWS) if place != unused()[0]]
    for name in ("whole", "damaged"):
        stopped(tiny_policy, tmp_path / name)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_policy, rows, objective(), LONG, tmp_path / name, progress=Told(FIRST + 1))
    (weights,) = (tmp_path / "damaged").glob(f"checkpoints/*{FIRST + 1}/adapter_model.safetensors")
    weights.write_bytes(b"")
    for name in ("whole", "damaged"):
        train(tiny_policy, rows, objective(), LONG, tmp_path / name)
    assert_same_run(tmp_path / "damaged", tmp_path / "whole")


@pytest.mark.parametrize("change", ["removed", "repaired"])
def test_a_row_that_was_used_is_a_difference_that_names_row_and_step(
    tiny_policy, tmp_path, begun, change
):
    place = next(place for place, row in enumerate(ROWS) if row.text in used(1))
    other = [make_prompt("repaired")] if change == "repaired" else []
    rows = [*ROWS[:place], *other, *ROWS[place + 1 :]]
    shutil.copytree(begun, tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    expected = (
        rf"another `prompts` \(row {place + 1}, which step 1 was trained on, is gone or another"
    )
    with pytest.raises(TrainingError, match=expected):
        train(tiny_policy, rows, objective(), LONG, tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_other_settings_beside_other_rows_are_named(tiny_policy, tmp_path, begun):
    shutil.copytree(begun, tmp_path / "run")
    rows = [row for place, row in enumerate(ROWS) if place != unused()[0]]
    with pytest.raises(TrainingError, match="another `learning_rate`"):
        train(tiny_policy, rows, objective(), replace(LONG, learning_rate=1.0), tmp_path / "run")


def test_a_finished_run_is_not_given_out_for_one_of_other_rows(tiny_policy, tmp_path):
    settings = replace(LONG, steps=1)
    train(tiny_policy, ROWS, objective(), settings, tmp_path / "run")
    rows = [row for row in ROWS if row.text in used(1)]
    with pytest.raises(TrainingError, match="another `prompts`"):
        train(tiny_policy, rows, objective(), settings, tmp_path / "run")
    identity = identify(tiny_policy, rows, (), objective(), settings)
    assert choose_name(tmp_path, "run", identity, fresh=False, steps=1)[0] == "run-2"
    assert choose_name(tmp_path, "run", identity, fresh=False, steps=2)[0] == "run"


def test_heldout_rows_are_used_from_the_first_step_on(tiny_policy, tmp_path):
    stopped(tiny_policy, tmp_path / "run", heldout=PROMPTS[:2])
    with pytest.raises(TrainingError, match="another `heldout`"):
        train(tiny_policy, ROWS, objective(), LONG, tmp_path / "run", heldout=PROMPTS[:3])


def test_a_row_on_which_a_reward_fails_is_repaired_and_the_run_goes_on(tiny_policy, tmp_path):
    """The whole story: the training stops at a bad row, the file is mended, the finished steps are kept."""
    place = next(
        place for place, row in enumerate(ROWS) if row.text in used(3) and row.text not in used(2)
    )

    rows = list(ROWS)
    rows[place] = make_prompt("bad", fields={"bad": True}, line=place + 1)
    rewards = combine_rewards([Reward("picky", picky), *objective().rewards])
    with pytest.raises(RewardError, match=r"'picky'.*'bad'.*cannot be scored"):
        train(tiny_policy, rows, rewards, LONG, tmp_path / "run")
    assert [record["step"] for record in read_history(tmp_path / "run")] == [1, 2]
    told = Told()
    train(tiny_policy, ROWS, rewards, LONG, tmp_path / "run", progress=told)
    train(tiny_policy, ROWS, rewards, LONG, tmp_path / "whole")
    assert len(told.about_rows()) == 1
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def picky(prompt, completion):
    if prompt.fields.get("bad"):
        raise ValueError("the row cannot be scored")
    return LetterShare("aeiou").score(prompt, completion)


def test_a_run_without_a_step_takes_any_rows(tiny_policy, tmp_path):
    bad = [make_prompt("bad", fields={"bad": True})] * 3
    rewards = combine_rewards([Reward("picky", picky)])
    for heldout in ((), bad):
        folder = tmp_path / str(len(heldout))
        with pytest.raises(RewardError, match="cannot be scored"):
            train(tiny_policy, ROWS if heldout else bad, rewards, LONG, folder, heldout=heldout)
        settings = replace(LONG, steps=6)
        train(tiny_policy, ROWS, rewards, settings, folder)
        assert read_history(folder)[-1]["step"] == 6


@pytest.mark.parametrize("digits", [8, 16])
def test_a_run_of_an_older_version_goes_on_too(tiny_policy, tmp_path, digits):
    """It has shorter sums of its rows; the steps after the change are those of a new run."""
    rows = [row for place, row in enumerate(ROWS) if place != unused()[2]]
    for name in ("old", "new"):
        stopped(tiny_policy, tmp_path / name)
    file = tmp_path / "old" / "run.json"
    content = json.loads(file.read_text())
    short = {
        key: " ".join(row[:digits] for row in sums.split())
        for key, sums in content["identity"]["rows"].items()
    }
    content["identity"]["rows"] = short
    file.write_text(json.dumps(content))
    for name in ("old", "new"):
        with pytest.raises(KeyboardInterrupt):
            train(tiny_policy, rows, objective(), LONG, tmp_path / name, progress=Told(FIRST + 1))
        fewer = [row for row in rows if row.text in used(FIRST)]
        fewer += [make_prompt("late")]
        with pytest.raises(TrainingError, match="which step 4 was trained on"):
            train(tiny_policy, fewer, objective(), LONG, tmp_path / name)
        train(tiny_policy, rows, objective(), LONG, tmp_path / name)
    assert_same_run(tmp_path / "old", tmp_path / "new")


@pytest.fixture(scope="module")
def begun(tiny_folder, tmp_path_factory):
    """A run that was stopped, to be copied."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    stopped(load_policy(tiny_folder, device="cpu"), folder)
    return folder


@pytest.mark.parametrize("rows", [None, 7, "x", "1234 5678", ["a"], {"prompts": 3}])
def test_without_sums_of_its_rows_a_run_stays_as_it_was(tiny_policy, tmp_path, begun, rows):
    file = shutil.copytree(begun, tmp_path / "run") / "run.json"
    content = json.loads(file.read_text())
    content["identity"]["rows"] = rows
    file.write_text(json.dumps(content))
    fewer = [row for place, row in enumerate(ROWS) if place != unused()[0]]
    with pytest.raises(TrainingError, match="another `prompts`"):
        train(tiny_policy, fewer, objective(), LONG, tmp_path / "run")


@pytest.mark.parametrize(
    "past",
    [
        7,
        {},
        {"rows": "x", "epoch": 0, "begun": 0},
        {"rows": "0123456789abcdef", "epoch": 0, "begun": 0},
        {"rows": "0123456789abcdef", "epoch": -1, "begun": 0},
        {"rows": "0123456789abcdef", "epoch": 0, "begun": 9},
        {"rows": "0123456789abcdef", "epoch": True, "begun": 0},
        {"rows": ["0123456789abcdef"], "epoch": 0, "begun": 0},
    ],
    ids=range(8),
)
def test_a_past_that_no_run_writes_is_refused_in_one_line(tiny_policy, tmp_path, begun, past):
    file = shutil.copytree(begun, tmp_path / "run") / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "past": past}))
    for rows in (ROWS, [row for place, row in enumerate(ROWS) if place != unused()[0]]):
        with pytest.raises(TrainingError, match=r"run\.json' cannot be read") as caught:
            train(tiny_policy, rows, objective(), LONG, tmp_path / "run")
        assert "\n" not in str(caught.value)


def test_an_older_version_does_not_take_a_run_with_a_past_for_its_own(tiny_policy, tmp_path, begun):
    """It would draw other rows; so the file has a newer format, and only then."""
    shutil.copytree(begun, tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    assert json.loads(file.read_text())["format"] == 2
    rows = [row for place, row in enumerate(ROWS) if place != unused()[0]]
    train(tiny_policy, rows, objective(), LONG, tmp_path / "run")
    content = json.loads(file.read_text())
    assert content["format"] == 3
    assert content["identity"] == identify(tiny_policy, rows, (), objective(), LONG)
