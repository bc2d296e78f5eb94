"""A run that is stopped, killed or made longer goes on as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from small_training import PROMPTS, SETTINGS, LetterShare, StopAt, assert_same_run, objective

from gdpo.errors import RewardError
from gdpo.objective.objective import combine_rewards
from gdpo.rewards.reward import Reward
from gdpo.training.trainer import train


def test_the_same_seed_gives_the_same_run(tiny_policy, tmp_path, reference):
    train(tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "run", heldout=PROMPTS[:3])
    assert_same_run(tmp_path / "run", reference)


@pytest.mark.parametrize("stop", [StopAt(3), StopAt(3, polls=5), StopAt(0, polls=40), StopAt(6)])
def test_a_cancelled_run_loses_no_step_and_resumes_exactly(tiny_policy, tmp_path, reference, stop):
    with pytest.raises(KeyboardInterrupt):
        train(
            tiny_policy,
            PROMPTS,
            objective(),
            SETTINGS,
            tmp_path / "run",
            heldout=PROMPTS[:3],
            progress=stop,
        )
    if stop.done:
        assert (tmp_path / "run" / "checkpoints" / f"step-{stop.done:06d}").is_dir()
    train(tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "run", heldout=PROMPTS[:3])
    assert_same_run(tmp_path / "run", reference)


def test_a_killed_run_resumes_exactly(tiny_folder, tiny_policy, tmp_path, reference):
    """kill -9 after step 3: the checkpoint of step 2 is there, step 3 is made again."""
    script = (
        "import sys, threading; sys.path[:0] = sys.argv[1:3]\n"
        "from pathlib import Path\n"
        "from small_training import PROMPTS, SETTINGS, objective\n"
        "from gdpo.policies.loading import load_policy\n"
        "from gdpo.progress import Progress\n"
        "from gdpo.training.trainer import train\n"
        "class Slow(Progress):\n"
        "    def record(self, record):\n"
        "        if record['step'] == 3:\n"
        "            print('ready', flush=True); threading.Event().wait()\n"
        "train(load_policy(sys.argv[3], device='cpu'), PROMPTS, objective(), SETTINGS,\n"
        "      Path(sys.argv[4], 'run'), heldout=PROMPTS[:3], progress=Slow())\n"
    )
    root = Path(__file__).parents[1]
    arguments = [str(root.parent), str(root), str(tiny_folder), str(tmp_path)]
    command = [sys.executable, "-c", script, *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **streams) as process:
        line = process.stdout.readline()  # comes after step 3, or with the end of the process
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    assert line == "ready\n", "the training ended before it could be killed"
    with (tmp_path / "run" / "history.jsonl").open("a") as stream:
        stream.write('{"step": 4, "rewa')  # a line torn by the kill
    (tmp_path / "run" / "checkpoints" / ".step-000004.99.tmp").mkdir()
    train(tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "run", heldout=PROMPTS[:3])
    assert_same_run(tmp_path / "run", reference)
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adamw_8bit"])
def test_more_steps_continue_a_finished_run(tiny_policy, tmp_path, optimizer):
    if optimizer == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    settings = replace(SETTINGS, optimizer=optimizer, eval_every=2)
    for steps in (2, 4):
        train(tiny_policy, PROMPTS, objective(), replace(settings, steps=steps), tmp_path / "twice")
    train(tiny_policy, PROMPTS, objective(), replace(settings, steps=4), tmp_path / "once")
    assert_same_run(tmp_path / "twice", tmp_path / "once")


def test_an_interrupt_inside_the_optimisers_step_goes_on_from_the_checkpoint_before(
    tiny_policy, tmp_path, reference, monkeypatch
):
    calls = []
    original = torch.optim.AdamW.step

    def step(optimizer, *arguments):
        calls.append(1)
        result = original(optimizer, *arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt  # the parameters are those of step 4, nothing else is
        return result

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        with pytest.raises(KeyboardInterrupt):
            train(
                tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "run", heldout=PROMPTS[:3]
            )
    train(tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "run", heldout=PROMPTS[:3])
    assert_same_run(tmp_path / "run", reference)


def test_a_failing_reward_stops_the_step_and_keeps_the_run(tiny_policy, tmp_path):
    @dataclass(frozen=True)
    class Fragile(LetterShare):
        letters: str = ""

        def score(self, prompt, completion):
            if (tmp_path / "run" / "history.jsonl").read_text().count("\n") >= 2:
                raise ZeroDivisionError("nothing to divide")
            return super().score(prompt, completion)

    fragile = combine_rewards([Reward("fragile", Fragile("ae"))])
    with pytest.raises(RewardError, match=r"'fragile'.*nothing to divide") as caught:
        train(tiny_policy, PROMPTS, fragile, SETTINGS, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run" / "checkpoints" / "step-000002").is_dir()


def test_run_json_says_what_the_run_is(reference):
    content = json.loads((reference / "run.json").read_text())
    assert content["identity"]["method"] == "gdpo"
    assert content["identity"]["settings"]["learning_rate"] == 1e-2
    assert content["versions"]["torch"]
