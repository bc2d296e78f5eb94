"""What the page is told of a training, and when."""

from __future__ import annotations

import json
import os

import pytest
from loaded_pack import PACK, submodule

from gdpo.to_json import to_json

live = submodule("nodes.comfy.live")
host = submodule("nodes.comfy.host")
progress = submodule("nodes.comfy.progress")
errors = submodule("gdpo.errors")
policies = submodule("gdpo.policies.policy")
trainer = submodule("gdpo.training.trainer")
NODES = PACK.NODE_CLASS_MAPPINGS


def step(number, mean=0.5, **more):
    return {
        "step": number,
        "rewards": {"a": {"mean": mean, "std": 0.1, "dead_groups": 0.0}},
        "weights": {"a": 1.0},
        "cosines": [[1.0]],
        "truncated": 0.0,
        "peak_memory_mb": 1.0,
        **more,
    }


def evaluation(number):
    found = {
        "rewards": {"a": {"mean": 0.25, "standard_error": None}},
        "length": {"mean": 20.0, "std": 2.0},
        "truncated": 0.0,
    }
    return {"step": number, "eval": found}


@pytest.fixture
def told():
    """A training's messages, with the page that gets them."""

    class Told:
        def __init__(self):
            self.pages, self.messages = {"one": object()}, []
            about = {"node": "8", "workflow": "w", "run": "r", "steps": 9}
            past = [step(1), step(2), step(3)]
            self.run = live.LiveRun(about, past, self.send, lambda: dict(self.pages))

        def send(self, *message):
            self.messages.append(message)

        def to(self, page):
            return [message for _, message, name in self.messages if name == page]

        def last(self):
            return self.messages[-1][1]

    return Told()


def steps(message):
    return [record["step"] for record in message["past"]]


def test_first_message_holds_the_past_and_later_ones_do_not(told):
    told.run.record(step(4))
    assert steps(told.last()) == [1, 2, 3, 4]
    told.run.record(step(5))
    assert "past" not in told.last()
    assert told.last()["record"]["step"] == 5
    about = {name: told.last()[name] for name in ("node", "workflow", "run", "steps")}
    assert about == {"node": "8", "workflow": "w", "run": "r", "steps": 9}


def test_a_page_that_was_reloaded_gets_everything_again(told):
    told.run.record(step(4))
    told.pages["one"] = object()
    told.run.record(step(5))
    assert steps(told.last()) == [1, 2, 3, 4, 5]


def test_a_page_that_was_reloaded_need_not_wait_for_a_step(told, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    told.run.phase("updating", 3, 9)
    told.pages["one"] = object()
    told.run.poll()
    assert len(told.messages) == 1
    now[0] += 0.3
    told.run.poll()
    assert steps(told.last()) == [1, 2, 3]
    assert told.last()["phase"] == "updating"
    now[0] += 9
    told.run.poll()
    assert len(told.messages) == 2


def test_every_page_is_told_and_each_gets_the_past_once(told):
    told.run.record(step(4))
    told.pages["two"] = object()
    told.run.record(step(5))
    assert ["past" in message for message in told.to("one")] == [True, False]
    assert ["past" in message for message in told.to("two")] == [True]
    del told.pages["one"]
    told.run.record(step(6))
    assert (len(told.to("one")), len(told.to("two"))) == (2, 2)


def test_a_run_whose_folder_is_chosen_late_is_told_whole_under_its_name(told):
    told.run.record(step(4))
    told.run.follow("r-2", [step(1)])
    told.run.phase("sampling", 1, 9)
    assert (told.last()["run"], steps(told.last())) == ("r-2", [1])


@pytest.mark.parametrize("word", ["", "stopped", "failed"])
def test_the_end_is_told_at_once_and_is_the_last(told, word):
    told.run.phase("sampling", 3, 9)
    told.run.phase("updating", 3, 9)  # waits
    told.run.end(word)
    assert (told.last()["phase"], told.last()["ended"]) == (word, True)
    count = len(told.messages)
    told.run.poll()
    assert len(told.messages) == count


def test_nothing_is_sent_where_there_is_no_page_and_all_of_it_later(told):
    told.pages = {}
    told.run.record(step(4))
    assert not told.messages
    told.pages = {"one": object()}
    told.run.phase("sampling", 4, 9)
    assert steps(told.last()) == [1, 2, 3, 4]


def test_a_run_that_goes_on_from_a_checkpoint_cuts_what_it_makes_again(told):
    told.run.record(step(2, mean=0.75))
    assert steps(told.last()) == [1, 2]
    assert told.last()["past"][1]["rewards"]["a"]["mean"] == 0.75


def test_an_evaluation_joins_its_step(told):
    told.run.record(evaluation(3))
    newest = told.last()["past"][-1]
    assert {"rewards", "eval"} <= set(newest)


def test_phases_are_told_at_most_four_times_a_second_and_the_newest_last(told, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    for number in range(100):
        told.run.phase("evaluating", number, 100)
        now[0] += 0.01
    assert 3 <= len(told.messages) <= 5
    now[0] += 1
    told.run.poll()
    assert told.last()["done"] == 99
    told.run.poll()
    assert told.last()["done"] == 99


def test_sample_goes_with_the_step_and_is_short(told):
    sample = {"step": 4, "prompt": "p" * 9999, "completion": "c", "rewards": {"a": 1 / 3}}
    told.run.record({**step(4), "sample": sample})
    shown = told.last()["sample"]
    assert len(shown["prompt"]) < 2000
    assert shown["rewards"] == {"a": 0.3333}
    assert "sample" not in told.last()["record"]


def test_findings_are_in_words(told):
    for number in range(4, 12):
        told.run.record(step(number, truncated=1.0))
    assert any("cut off" in text for text in told.last()["findings"])


def test_what_is_sent_survives_json_though_a_loss_is_not_finite(told):
    told.run.record(step(4, mean=float("nan"), dispersion=float("inf")))
    message = to_json(told.last())
    assert json.loads(json.dumps(message, allow_nan=False))["record"]["dispersion"] is None


@pytest.mark.parametrize("count", [0, 1, 400, 401, 5000])
def test_a_long_history_is_thinned_but_keeps_evaluations_and_its_end(count):
    history = [
        {**step(number), **(evaluation(number) if number % 500 == 0 else {})}
        for number in range(1, count + 1)
    ]
    short = live.shorten_history(history)
    assert len(short) <= live.MAX_RECORDS + count // 500
    assert len(short) == count or count > live.MAX_RECORDS
    assert [record["step"] for record in short if "eval" in record] == list(
        range(500, count + 1, 500)
    )
    assert not count or short[-1]["step"] == count
    assert all("peak_memory_mb" not in record for record in short)


# --- Plot Convergence with saved runs ------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """Two saved runs, `one` and `two`, in the output folder."""
    host.configure(host.Folders(tmp_path, tmp_path / "input", (tmp_path / "models",)))
    for name, count in (("one", 12), ("two", 6)):
        folder = tmp_path / "gdpo" / name
        folder.mkdir(parents=True)
        lines = [evaluation(0), *map(step, range(1, count + 1))]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "history.jsonl").write_text(text, encoding="utf-8")
    yield tmp_path / "gdpo"
    host.configure(None)


def plot(**inputs):
    return NODES["GDPOPlotConvergence"]().plot(**inputs)


def test_saved_runs_are_laid_over_each_other_without_a_training(saved):
    shown = plot(saved_runs="one, two,one")["ui"]["gdpo_runs"]
    assert [run["run"] for run in shown] == ["one", "two"]
    assert [len(run["records"]) for run in shown] == [13, 7]
    assert (saved / "one" / "convergence.png").is_file()


def test_a_saved_run_joins_the_linked_one(saved):
    linked = trainer.TrainResult(policies.Policy(None), saved / "two")
    shown = plot(run=linked, saved_runs="one")["ui"]["gdpo_runs"]
    assert [run["run"] for run in shown] == ["two", "one"]


@pytest.mark.parametrize(
    "names",
    ["", " , ", "three", "../one", "/etc", "one/../two", "one\0", "con", "x" * 300, "one,../two"],
)
def test_other_names_are_refused_in_one_line(saved, names):
    with pytest.raises(errors.WorkflowError) as caught:
        plot(saved_runs=names)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_answered_with_those_that_are_there(saved):
    with pytest.raises(errors.WorkflowError, match=r"no run 'three'.*(one, two|two, one)"):
        plot(saved_runs="three")


def test_a_saved_run_that_leads_out_by_a_symlink_is_refused(saved, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "history.jsonl").write_text(json.dumps(step(1)) + "\n", encoding="utf-8")
    (saved / "link").symlink_to(outside)
    (saved / "inner").mkdir()
    (saved / "inner" / "history.jsonl").symlink_to(outside / "history.jsonl")
    for name in ("link", "inner"):
        with pytest.raises(errors.WorkflowError, match="symlink"):
            plot(saved_runs=name)


def test_a_saved_run_that_grew_is_drawn_again(saved):
    changed = NODES["GDPOPlotConvergence"].IS_CHANGED
    before = changed(saved_runs="one")
    assert changed(saved_runs="one") == before
    file = saved / "one" / "history.jsonl"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 10**9))
    assert changed(saved_runs="one") != before
    assert changed(saved_runs="../x")  # says something, raises nothing
    assert changed()


# --- GDPO Train ---------------------------------------------------------------------------------------


class Followed(progress.TerminalProgress):
    """Keeps what the trainer tells."""

    def __init__(self):
        super().__init__("training", 2)
        self.records, self.phases = [], set()

    def phase(self, name, done, total):
        self.phases.add(name)

    def record(self, record):
        self.records.append(record)


def test_events_and_result_of_a_training_tell_the_same(tmp_path, monkeypatch):
    host.configure(host.Folders(tmp_path, tmp_path / "input", (tmp_path / "models",)))
    followed = Followed()
    monkeypatch.setattr(progress, "TerminalProgress", lambda *_: followed)
    call = lambda node_id, **inputs: getattr(NODES[node_id](), NODES[node_id].FUNCTION)(**inputs)
    (model,) = call("GDPOLoadModel", model="starter (bundled)", device="cpu")
    (prompts,) = call("GDPOLoadPrompts", file="support desk: train", limit=2)
    (reward,) = call("GDPODefineRewardPoliteness", name="politeness")
    (rewards,) = call("GDPOCombineRewards", reward_1=reward)
    given = call(
        "GDPOTrain",
        model=model,
        prompts=prompts,
        heldout=prompts,
        rewards=rewards,
        run_name="a",
        steps=2,
        prompts_per_step=1,
        group_size=2,
        max_new_tokens=4,
        lora_rank=2,
        eval_every=1,
    )
    host.configure(None)
    (shown,) = given["ui"]["gdpo_runs"]
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert (shown["run"], shown["steps"]) == ("a", 2)
    before = {"reading the model", "checking", "asking the nodes that follow", "estimating memory"}
    steps = {"trying two tokens", "sampling", "scoring", "updating", "evaluating"}
    assert followed.phases == before | steps

    sent = []
    run = live.LiveRun(
        {}, (), lambda _event, message, _page: sent.append(message), lambda: {"p": 1}
    )
    for record in followed.records:
        run.record(record)
    merged = {}
    for message in sent:
        record = to_json(message["record"])
        merged[record["step"]] = {**merged.get(record["step"], {}), **record}
    assert list(merged.values()) == shown["records"]
    assert sent[-1]["sample"] == shown["sample"]
    assert shown["sample"]["step"] == 2
