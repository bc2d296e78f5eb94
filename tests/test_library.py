"""The library from Python: the example of the README, and going on with yesterday's run."""

from __future__ import annotations

import json

import pytest

import gdpo
from gdpo.runs.run_file import describe_run
from gdpo.starter import HELDOUT_PROMPTS, MODEL_DIR, TRAIN_PROMPTS

SMALL = {
    "prompts_per_step": 2,
    "group_size": 4,
    "max_new_tokens": 12,
    "eval_every": 2,
    "lora_rank": 2,
    "learning_rate": 1e-2,
}


def polite(prompt, completion):
    return float("please" in completion.text.lower())


def as_trl_has_them(prompts, completions, reference, **columns):
    """The share of the reference's words that are there."""
    assert len(prompts) == len(completions) == len(reference)
    words = [set(text.lower().split()) for text in reference]
    return [
        len(w & set(c.lower().split())) / len(w) for w, c in zip(words, completions, strict=True)
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The README's example, with few steps and the bundled model."""
    folder = tmp_path_factory.mktemp("library") / "first"
    model = gdpo.load_policy(str(MODEL_DIR), device="cpu")
    objective = gdpo.combine_rewards([
        gdpo.Reward("right", gdpo.from_trl(as_trl_has_them), preference=2),
        gdpo.Reward("short", gdpo.Conciseness(longest=80)),
        gdpo.Reward("polite", polite),
    ])
    questions, heldout = (
        gdpo.load_prompts(str(path))[:6] for path in (TRAIN_PROMPTS, HELDOUT_PROMPTS)
    )
    run = gdpo.train(model, questions, objective, str(folder), heldout=heldout, steps=4, **SMALL)
    return run, model, objective, questions, heldout


def test_a_run_shows_rewards_history_settings_and_figure(trained, tmp_path):
    run, *_ = trained
    assert list(run.rewards) == ["right", "short", "polite"]
    assert all(0 <= value <= 1 for pair in run.rewards.values() for value in pair)
    assert [record["step"] for record in run.history] == [0, 1, 2, 3, 4]
    assert (run.step, run.settings.steps, run.settings.group_size) == (4, 4, 4)
    pixels = run.plot(str(tmp_path / "first.png"))
    assert pixels.shape[2] == 3
    assert (tmp_path / "first.png").stat().st_size > 10_000
    content = json.loads((run.folder / "run.json").read_text())
    assert content["gdpo"] == gdpo.__version__
    assert content["source"] == str(MODEL_DIR)


def test_a_run_finds_its_base_from_another_working_folder(tmp_path, monkeypatch):
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    assert describe_run({}, "base", None)["source"] == str(tmp_path / "base")
    assert describe_run({}, "Qwen/Qwen2.5-0.5B", None)["source"] == "Qwen/Qwen2.5-0.5B"


def test_an_opened_run_has_the_policy_that_was_trained(trained):
    run, model, _, _, heldout = trained
    opened = gdpo.open_run(str(run.folder))
    assert (opened.rewards, opened.settings) == (run.rewards, run.settings)
    ours, theirs = (one.policy.adapter.state for one in (run, opened))
    assert ours.keys() == theirs.keys()
    assert all(ours[key].equal(theirs[key]) for key in ours)
    rewards = [gdpo.Reward("polite", polite)]
    before, after = (
        gdpo.evaluate(policy, heldout, rewards, max_new_tokens=12)
        for policy in (run.policy, opened.policy)
    )
    assert before == after != gdpo.evaluate(model, heldout, rewards, max_new_tokens=12)


def test_yesterdays_run_goes_on_under_the_same_settings_only(trained):
    run, model, objective, questions, heldout = trained
    longer = gdpo.train(model, questions, objective, run.folder, heldout=heldout, steps=5, **SMALL)
    assert longer.step == 5
    other = gdpo.combine_rewards([*objective.rewards[:2], gdpo.Reward("polite", lambda p, c: 1.0)])
    with pytest.raises(gdpo.TrainingError, match="another `rewards`"):
        gdpo.train(model, questions, other, run.folder, heldout=heldout, steps=6, **SMALL)


def test_an_interrupted_run_can_be_opened(trained, tmp_path):
    _, model, objective, questions, _ = trained

    class Stop(gdpo.Progress):
        def record(self, record):
            if record["step"] == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gdpo.train(model, questions, objective, tmp_path / "run", progress=Stop(), steps=9, **SMALL)
    opened = gdpo.open_run(tmp_path / "run")
    assert opened.step == 2
    assert opened.policy.adapter.config["r"] == 2
    assert set(opened.rewards) == {"right", "short", "polite"}  # of the steps themselves


def test_a_finished_run_that_was_made_longer_and_stopped_opens_at_its_newest_step(
    trained, tmp_path
):
    _, model, objective, questions, _ = trained
    folder = tmp_path / "run"
    finished = gdpo.train(model, questions, objective, folder, steps=1, **SMALL)

    class Stop(gdpo.Progress):
        def record(self, record):
            if record["step"] == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gdpo.train(model, questions, objective, folder, progress=Stop(), steps=9, **SMALL)
    opened = gdpo.open_run(folder)
    assert opened.step == 2
    before, after = (run.policy.adapter.state for run in (finished, opened))
    assert any(not before[key].equal(after[key]) for key in before)


def test_what_cannot_be_opened_is_refused_in_one_line(trained, tmp_path, tiny_folder):
    run, *_ = trained
    with pytest.raises(gdpo.TrainingError, match="holds no run"):
        gdpo.open_run(tmp_path)
    with pytest.raises(gdpo.TrainingError, match="not the one that the run"):
        gdpo.open_run(run.folder).load(base=tiny_folder, device="cpu")
    with pytest.raises(gdpo.TrainingError, match="no setting 'step'; the settings are steps, "):
        gdpo.train(*trained[1:2], [], trained[2], tmp_path / "x", step=3)
    with pytest.raises(gdpo.PolicyError):
        gdpo.open_run(run.folder).load(base=tmp_path / "gone")


def test_a_batch_function_is_called_once_for_all_completions():
    calls = []

    def count(prompts, completions, **columns):
        calls.append((prompts, completions, columns))
        return [0.5] * len(completions)

    prompts = [gdpo.make_prompt(text, fields={"reference": text * 2}) for text in "ab"]
    completions = [gdpo.Completion("one", 1), gdpo.Completion("two", 1)]
    reward = gdpo.Reward("r", gdpo.from_trl(count))
    found = gdpo.score_rewards([reward], prompts, completions)
    assert found.tolist() == [[0.5, 0.5]]
    assert calls == [(["a", "b"], ["one", "two"], {"reference": ["aa", "bb"]})]


def test_a_function_for_conversational_data_gets_messages():
    def length(prompts, completions, **columns):
        assert [message["role"] for message in prompts[0]] == ["system", "user"]
        return [-float(len(completion[0]["content"])) for completion in completions]

    scorer = gdpo.from_trl(length, (-10, 0), conversational=True)
    prompts, completions = [gdpo.make_prompt("q", system="s")], [gdpo.Completion("abc", 1)]
    assert gdpo.score_rewards([gdpo.Reward("short", scorer)], prompts, completions) == -3.0


def test_texts_are_prompts_and_a_policy_answers_them(tiny_policy):
    options = {"max_new_tokens": 4, "seed": 3}
    texts, prompts = (
        ["the printer", "a cable"],
        [gdpo.make_prompt(t) for t in ("the printer", "a cable")],
    )
    found = gdpo.generate(tiny_policy, texts, **options)
    assert found == gdpo.generate(tiny_policy, prompts, **options)
    assert [completion.tokens <= 4 for completion in found] == [True, True]
    rewards = [gdpo.Reward("letters", lambda p, c: min(1.0, len(c.text) / 40))]
    mean = sum(min(1.0, len(completion.text) / 40) for completion in found) / 2
    evaluated = gdpo.evaluate(tiny_policy, texts, rewards, **options)["rewards"]["letters"]["mean"]
    compared = gdpo.compare({"base": tiny_policy}, texts, rewards, **options)
    assert evaluated == compared.rewards["base"]["letters"] == pytest.approx(mean)


@pytest.mark.parametrize("ask", ["generate", "evaluate"])
def test_one_text_in_place_of_a_list_is_refused(ask, tiny_policy):
    more = [[]] if ask == "evaluate" else []
    with pytest.raises(gdpo.PromptError, match="put it in brackets"):
        getattr(gdpo, ask)(tiny_policy, "the printer", *more)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda **_: [0.5], "must return a list of 2 scores"),
        (lambda **_: None, "must return a list of 2 scores"),
        (lambda **_: [0.5, 3.0], "a score must be a number from 0 to 1"),
        (lambda **_: [0.5, float("nan")], "a score must be a number from 0 to 1"),
        (lambda **_: 1 / 0, "division by zero"),
    ],
)
def test_a_batch_function_that_fails_is_an_error_and_never_a_low_reward(function, message):
    prompts, completions = [gdpo.make_prompt("a")] * 2, [gdpo.Completion("one", 1)] * 2
    reward = gdpo.Reward("r", gdpo.from_trl(function))
    with pytest.raises(gdpo.RewardError, match=message):
        gdpo.score_rewards([reward], prompts, completions)
