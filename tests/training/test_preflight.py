"""Everything that would end a training later is asked before its first step, and told in one message."""

from __future__ import annotations

import json
import shutil
import sys
from collections import namedtuple
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from small_training import PROMPTS, SETTINGS, LetterShare, objective

from gdpo.errors import (
    ExportError,
    GDPOError,
    MethodError,
    PolicyError,
    PreflightError,
    RewardError,
    TrainingError,
    WorkflowError,
    joined,
)
from gdpo.objective.methods import METHODS
from gdpo.objective.objective import combine_rewards
from gdpo.objective.weighting import Weighting
from gdpo.policies.adapter import Adapter, fresh_config
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import Policy, trainable
from gdpo.progress import Progress
from gdpo.prompts import load_prompts, make_prompt
from gdpo.rewards import AnswerMatch
from gdpo.rewards.reward import Reward
from gdpo.runs.checkpoints import KEEP
from gdpo.training import disk_space
from gdpo.training.trainer import train

Disk = namedtuple("Disk", "total used free")


def refused(policy, folder, rows=PROMPTS, goal=None, settings=SETTINGS, **options) -> GDPOError:
    """What the training is refused with, before there is a run folder."""
    with pytest.raises(GDPOError) as caught:
        train(policy, rows, goal or objective(), settings, folder, **options)
    assert not folder.exists()
    return caught.value


@pytest.fixture
def file(tmp_path):
    """Seven rows, of which the third and the fifth have more than the model's 256 tokens."""
    path = tmp_path / "rows.jsonl"
    texts = ["a", "b", "x " * 300, "c", "y " * 400, "d", "e"]
    path.write_text("".join(json.dumps({"prompt": text, "reference": 1}) + "\n" for text in texts))
    return path


def test_all_findings_are_in_one_message_with_a_line_for_each(
    tiny_policy, tmp_path, file, monkeypatch
):
    @dataclass(frozen=True)
    class Broken(LetterShare):
        letters: str = ""

        def check(self, prompt):
            return {"a": True}[prompt.text]

    def fails(gramian, preferences, deficit):
        raise ZeroDivisionError("no weights")

    def unfit(tokens):
        raise ExportError(f"node 6: cannot be exported (after {tokens.longest} tokens)")

    def fine(tokens):
        assert tokens.longest >= tokens.shortest > 0

    goal = combine_rewards(
        [Reward("right", AnswerMatch(field="solution")), Reward("mine", Broken())],
        weighting=Weighting("fails", "", fails),
    )
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda path: Disk(10**6, 10**6, 10))
    for name in ("bitsandbytes", "bitsandbytes.optim"):  # as if it were not installed
        monkeypatch.setitem(sys.modules, name, None)
    error = refused(
        tiny_policy,
        tmp_path / "run",
        load_prompts(file),
        goal,
        replace(SETTINGS, optimizer="adamw_8bit"),
        heldout=[make_prompt("z " * 500, line=9)],
        checks=(fine, unfit, fine),
    )
    assert isinstance(error, PreflightError)
    first, *lines = str(error).split("\n")
    assert first == "9 things stand in the way of the training, which has not begun:"
    expected = [
        "Reward 'right' (AnswerMatch) can score none of the 7 prompts: the column 'solution' is absent or empty.",
        "Reward 'mine' (LetterShare) cannot use 6 rows: line 2 of 'rows.jsonl': KeyError: 'b'; line 3 of 'rows.jsonl': ",
        "Reward 'mine' (LetterShare) cannot use a row: line 9: KeyError",
        "2 of the 7 prompts are too long: the model's context of 256 tokens leaves 248 beside `max_new_tokens` 8 "
        "(line 3 of 'rows.jsonl' with ",
        "1 of the 1 held-out prompts is too long: ",
        "The method 'gdpo' with the weighting 'fails' cannot be used for 2 rewards and groups of 4 ('ZeroDivisionError: "
        "no weights'); choose another, or correct it.",
        "`optimizer` 'adamw_8bit' needs bitsandbytes",
        "The run needs about ",
        "node 6: cannot be exported (after ",
    ]
    assert len(lines) == len(expected)
    for line, begin in zip(lines, expected, strict=True):
        assert line.startswith(f"- {begin}")
    assert "line 5 of 'rows.jsonl' with " in lines[3]
    assert lines[3].endswith("; lower `max_new_tokens`, or shorten or remove them.")


def test_one_finding_is_raised_as_what_it_is(tiny_policy, tmp_path, file):
    error = refused(tiny_policy, tmp_path / "run", load_prompts(file))
    assert type(error) is PolicyError
    assert str(error).startswith("2 of the 7 prompts are too long: ")
    assert type(refused(tiny_policy, tmp_path / "run", [])) is TrainingError


def test_errors_that_were_joined_are_taken_apart_again():
    one, two, three = PolicyError("a"), RewardError("b\nc"), TrainingError("d")
    assert joined([one]) is one
    assert joined([joined([two])]) is two
    error = joined([one, joined([two, three])])
    assert error.found == (one, two, three)
    assert str(error).split("\n")[1:] == ["- a", "- b\\nc", "- d"]
    again = type(error)(f"node 5: {error}")  # as whoever runs a workflow does it
    assert str(again) == f"node 5: {error}"
    assert not isinstance(error, WorkflowError)


def test_the_first_rows_are_named_and_the_others_counted(tiny_policy, tmp_path):
    rows = [make_prompt("x " * 300, line=i) for i in range(1, 40)]
    message = str(refused(tiny_policy, tmp_path / "run", [*PROMPTS, *rows]))
    assert message.startswith("39 of the 44 prompts are too long")
    assert "(line 1 with " in message
    assert "; line 3 with " in message
    assert "; ...)" in message
    assert "line 4" not in message


@pytest.mark.parametrize("room", [1, 0, -1])
def test_a_prompt_may_fill_the_context_to_its_last_token(tiny_policy, tmp_path, room):
    """The longest has so many tokens that this room is left; without any it is refused."""
    from gdpo.policies.chat import encode_prompt

    longest = max(len(encode_prompt(tiny_policy.base.tokenizer, row)) for row in PROMPTS)
    settings = replace(SETTINGS, steps=1, max_new_tokens=256 - longest - room)
    if room < 0:
        error = refused(tiny_policy, tmp_path / "run", settings=settings)
        assert "too long" in str(error)
    else:
        train(tiny_policy, PROMPTS, objective(), settings, tmp_path / "run")


def test_new_tokens_that_leave_no_room_at_all_are_what_is_named(tiny_policy, tmp_path):
    error = refused(tiny_policy, tmp_path / "run", settings=replace(SETTINGS, max_new_tokens=256))
    assert str(error) == (
        "`max_new_tokens` 256 leaves no room for a prompt in the model's context of 256 tokens; lower it."
    )


@pytest.mark.parametrize("whose", ["own", "stranger's"])
def test_a_template_without_a_system_role_is_refused_once_for_all_prompts(
    tiny_folder, tmp_path, whose
):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    policy = load_policy(folder, device="cpu")
    if whose == "own":
        del policy.base.tokenizer.gdpo_files
    rows = [make_prompt(f"row {i}", system="Be brief.", line=i + 1) for i in range(300)]
    message = str(refused(policy, tmp_path / "run", rows))
    assert message.startswith(
        "The model's chat template or tokenizer refuses 100 or more of the 300"
    )
    assert "(line 1: " in message
    assert "no system" in message
    assert message.endswith("many templates know no system role: leave `system` empty.")


def test_prompts_without_tokens_are_named(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = "{{ messages[0].content.replace('gone', '') }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    rows = [make_prompt("gone", line=1), make_prompt("here", line=2)]
    error = refused(load_policy(folder, device="cpu"), tmp_path / "run", rows)
    assert str(error) == "1 of the 2 prompts becomes no tokens (line 1); remove them."


class Watched(Progress):
    """Keeps the phases, and stops at one of them."""

    def __init__(self, stop: int | None = None) -> None:
        self.phases, self._stop = [], stop

    def phase(self, name, done, total):
        self.phases.append((name, done, total))
        if self._stop is not None and len(self.phases) > self._stop:
            raise KeyboardInterrupt


def test_progress_counts_the_prompts_up_to_all_of_them(tiny_policy, tmp_path):
    watched = Watched()
    rows = [make_prompt(f"row {i}") for i in range(1000)]
    settings = replace(SETTINGS, steps=1, eval_every=9)
    train(tiny_policy, rows, objective(), settings, tmp_path / "run", progress=watched)
    checking = [phase for phase in watched.phases if phase[0] == "checking"]
    assert watched.phases[: len(checking)] == checking
    assert [done for _, done, _ in checking] == sorted(done for _, done, _ in checking)
    assert checking[0] == ("checking", 0, 1000)
    assert checking[-1] == ("checking", 1000, 1000)
    assert 4 <= len(checking) <= 10


@pytest.mark.parametrize("stop", [0, 2])
def test_an_interrupt_leaves_neither_a_folder_nor_an_adapter(tiny_policy, tmp_path, stop):
    rows = [make_prompt(f"row {i}") for i in range(1000)]
    with pytest.raises(KeyboardInterrupt):
        train(tiny_policy, rows, objective(), SETTINGS, tmp_path / "run", progress=Watched(stop))
    assert not (tmp_path / "run").exists()
    assert not any("lora" in name for name, _ in tiny_policy.base.model.named_modules())


def test_a_refusal_leaves_the_base_as_it_was(tiny_policy, tmp_path, file):
    refused(tiny_policy, tmp_path / "run", load_prompts(file))
    assert not any("lora" in name for name, _ in tiny_policy.base.model.named_modules())
    assert not hasattr(tiny_policy.base.model, "peft_config")


# --- the method, the optimiser and the adapter ------------------------------------------------------


def nan(scores, weights, parts, ratios):
    return parts.sum(0) * float("nan")


def flat(scores, weights, parts, ratios):
    return parts.sum((0, 2))


def late(gramian, preferences, deficit):
    return preferences[:1].repeat(3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"method": replace(METHODS["gdpo"], name="mine", combine=nan)}, "not finite"),
        ({"method": replace(METHODS["grpo"], name="mine", combine=flat)}, "have the shape"),
        ({"weighting": Weighting("mine", "", late)}, "'mine'"),
    ],
    ids=["numbers", "shape", "weights"],
)
def test_a_method_of_ones_own_that_fails_later_is_refused_now(
    tiny_policy, tmp_path, options, reason
):
    error = refused(tiny_policy, tmp_path / "run", goal=objective(**{"method": "gdpo", **options}))
    assert isinstance(error, MethodError)
    assert reason in str(error)
    assert "for 2 rewards and groups of 4" in str(error)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("count", [1, 16])
def test_every_method_of_the_pack_passes_with_few_and_many_rewards(method, count):
    from gdpo.training.feasibility import check_method

    rewards = [Reward(f"r{i}", LetterShare("aeiou"[: i % 5 + 1])) for i in range(count)]
    for group in (2, 256):
        goal = combine_rewards(rewards, method=method)
        check_method(goal, replace(SETTINGS, group_size=group, prompts_per_step=1))


def test_an_optimiser_that_cannot_use_the_device_is_refused(tiny_policy, tmp_path, monkeypatch):
    def step(optimizer, *_):
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    error = refused(tiny_policy, tmp_path / "run", settings=replace(SETTINGS, optimizer="sgd"))
    assert str(error).startswith("`optimizer` 'sgd' cannot make a step on cpu ('no kernel")


def test_an_adapter_with_a_matrix_that_is_not_passed_is_refused(tiny_policy, tmp_path):
    tiny_policy.base.model.add_module("unused", torch.nn.Linear(8, 8))
    config = {**fresh_config(4, 8), "target_modules": ["q_proj", "unused"]}
    empty = Policy(tiny_policy.base, Adapter(config, {}))
    from gdpo.policies.adapter import read_adapter, unwrap, wrap

    model = wrap(tiny_policy.base.model, config)
    adapter = read_adapter(model)
    unwrap(model)
    error = refused(replace(empty, adapter=adapter), tmp_path / "run")
    assert isinstance(error, TrainingError)
    assert "unused" in str(error)
    assert "train a fresh adapter" in str(error)


def test_an_adapter_of_another_model_is_told_beside_the_rest(tiny_policy, tmp_path, file):
    with trainable(tiny_policy, rank=2, alpha=4, seed=0) as model:
        from gdpo.policies.adapter import read_adapter

        adapter = read_adapter(model)
    other = {name.replace("q_proj", "x_proj"): value for name, value in adapter.state.items()}
    policy = Policy(tiny_policy.base, Adapter(adapter.config, other))
    error = refused(policy, tmp_path / "run", load_prompts(file))
    assert [type(one) for one in error.found] == [PolicyError, PolicyError]
    assert "does not fit this model" in str(error)


# --- the disk ---------------------------------------------------------------------------------------


def needed(policy, folder, monkeypatch, settings) -> int:
    """Bytes that must be free, found by halving."""
    low, high = 0, 2**40
    with trainable(policy, rank=settings.lora_rank, alpha=8, seed=0) as model:
        while high - low > 1:
            middle = (low + high) // 2
            monkeypatch.setattr(
                disk_space.shutil, "disk_usage", lambda path, free=middle: Disk(free, 0, free)
            )
            try:
                disk_space.check_space(folder, model, PROMPTS, objective(), settings)
                high = middle
            except TrainingError:
                low = middle
    return high


def size(folder) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("optimizer", ["natural", "adamw", "sgd"])
def test_what_a_run_needs_on_the_disk_is_what_it_takes(
    tiny_policy, tmp_path, monkeypatch, optimizer
):
    """With three checkpoints for a moment, of which two stay; an estimate is no more than twice too large."""
    settings = replace(SETTINGS, optimizer=optimizer, steps=8, checkpoint_every=1, lora_rank=64)
    wanted = needed(tiny_policy, tmp_path / "run", monkeypatch, settings)
    monkeypatch.undo()
    train(tiny_policy, PROMPTS, objective(), settings, tmp_path / "run")
    (*_, newest) = sorted((tmp_path / "run" / "checkpoints").iterdir())
    taken = size(tmp_path / "run") + size(newest)
    assert taken <= wanted <= 2 * taken
    # It goes on beside what is there.
    more = needed(tiny_policy, tmp_path / "run", monkeypatch, replace(settings, steps=9))
    assert size(newest) <= more < wanted


def test_a_run_that_is_finished_needs_nothing_more(tiny_policy, tmp_path, monkeypatch):
    settings = replace(SETTINGS, steps=1)
    train(tiny_policy, PROMPTS, objective(), settings, tmp_path / "run")
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda path: Disk(0, 0, 0))
    train(tiny_policy, PROMPTS, objective(), settings, tmp_path / "run")


@pytest.mark.parametrize("every", [1, 2, 7])
@pytest.mark.parametrize("there", range(KEEP + 1))
def test_checkpoints_never_count_more_than_those_that_are_kept_and_the_one_that_is_written(
    every, there
):
    for steps in range(1, 20):
        kept, most = list(range(there)), there
        for step in range(1, steps + 1):
            if step % every == 0 or step == steps:
                kept.append(there + step)
                most = max(most, len(kept))
                kept = kept[-KEEP:]
        assert disk_space.new_checkpoints(steps, every, there) >= most - there
        assert there + disk_space.new_checkpoints(steps, every, there) <= KEEP + 1


@dataclass(frozen=True)
class Counted:
    """A scorer that counts how often it is asked."""

    asked: ClassVar[list[str]] = []
    kind: ClassVar[str] = "Counted"
    summary: ClassVar[str] = "counts"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def check(self, prompt):
        self.asked.append(prompt.text)
        return True

    def score(self, prompt, completion):
        return LetterShare("a").score(prompt, completion)


def test_every_reward_is_asked_about_every_row_once(tiny_policy, tmp_path):
    Counted.asked.clear()
    goal = combine_rewards([Reward("counted", Counted())])
    settings = replace(SETTINGS, steps=1)
    train(tiny_policy, PROMPTS, goal, settings, tmp_path / "run", heldout=PROMPTS[:2])
    assert sorted(Counted.asked) == sorted(row.text for row in [*PROMPTS, *PROMPTS[:2]])
