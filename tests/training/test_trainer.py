"""The loop on real models: it learns, it loses nothing, and it repeats itself bit for bit."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from conftest import make_model
from rounding import bound, close, path_length
from small_training import PROMPTS, SETTINGS, LetterShare, objective

from gdpo.errors import RewardError, TrainingError
from gdpo.objective.methods import METHODS
from gdpo.objective.objective import combine_rewards
from gdpo.policies.loading import load_policy
from gdpo.progress import Progress
from gdpo.rewards import AnswerMatch
from gdpo.rewards.reward import Reward
from gdpo.runs.history import read_history
from gdpo.training.trainer import train


class StopAt(Progress):
    """Interrupts in the middle of a step, as a host would: from `poll`, or after a record."""

    def __init__(self, step: int, polls: int | None = None) -> None:
        self.step, self.polls, self.done = step, polls, 0

    def record(self, record):
        self.done = record["step"]
        if self.polls is None and self.done == self.step:
            raise KeyboardInterrupt

    def poll(self):
        if self.polls is not None and self.done >= self.step:
            self.polls -= 1
            if self.polls < 0:
                raise KeyboardInterrupt


def outcome(folder: Path):
    """What a run leaves, without what depends on the clock."""
    from safetensors.torch import load_file

    timed = {"seconds", "tokens_per_second", "peak_memory_mb"}
    history = [{k: v for k, v in r.items() if k not in timed} for r in read_history(folder)]
    completions = (folder / "completions.jsonl").read_bytes()
    return history, completions, load_file(folder / "adapter" / "adapter_model.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    left, right = outcome(one), outcome(other)
    assert left[0] == right[0]
    assert left[1] == right[1]
    assert all(torch.equal(left[2][key], right[2][key]) for key in left[2] | right[2])


@pytest.fixture(scope="module")
def reference(tiny_folder, tmp_path_factory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    train(
        load_policy(tiny_folder, device="cpu"),
        PROMPTS,
        objective(),
        SETTINGS,
        folder,
        heldout=PROMPTS[:3],
    )
    return folder


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_trains_and_records(tiny_policy, tmp_path, method):
    result = train(
        tiny_policy, PROMPTS, objective(method), replace(SETTINGS, steps=2), tmp_path / "run"
    )
    records = read_history(result.folder)
    assert [r["step"] for r in records] == [1, 2]
    for record in records:
        assert set(record["rewards"]) == {"vowels", "consonants"}
        assert record["grad_norm"] > 0
        assert record["entropy"] > 0
        assert record["kl"] >= 0
        assert 0.5 <= record["dispersion"] <= 1
        assert record["cosines"][0][0] == pytest.approx(1.0, abs=1e-6)
    assert any(
        tensor.any() for name, tensor in result.policy.adapter.state.items() if "lora_B" in name
    )


def test_a_reward_rises_in_training(tiny_policy, tmp_path):
    only = combine_rewards([Reward("vowels", LetterShare("aeiou"))])
    settings = replace(SETTINGS, steps=60, group_size=8, prompts_per_step=4, eval_every=60)
    train(tiny_policy, PROMPTS, only, settings, tmp_path / "run", heldout=PROMPTS * 20)
    first, last = (
        r["eval"]["rewards"]["vowels"] for r in read_history(tmp_path / "run") if "eval" in r
    )
    error = (first["standard_error"] ** 2 + last["standard_error"] ** 2) ** 0.5
    assert last["mean"] > first["mean"] + 3 * error


def test_the_same_seed_gives_the_same_run(tiny_policy, tmp_path, reference):
    train(tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "run", heldout=PROMPTS[:3])
    assert_same_run(tmp_path / "run", reference)


def test_training_leaves_the_input_policy_unchanged(tiny_policy, tmp_path):
    before = {name: tensor.clone() for name, tensor in tiny_policy.base.model.state_dict().items()}
    train(tiny_policy, PROMPTS, objective(), replace(SETTINGS, steps=1), tmp_path / "run")
    after = tiny_policy.base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert tiny_policy.adapter is None


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


def away_from_base(policy):
    """The policy with a random adapter, so that both LoRA matrices have gradients."""
    from gdpo.policies.adapter import read_adapter
    from gdpo.policies.policy import Policy, trainable

    with trainable(policy, rank=4, alpha=8, seed=0) as model:
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        return Policy(policy.base, read_adapter(model))


def terms_of_a_step(model) -> int:
    """Number of additions that make an entry of the gradient of a step of `SETTINGS`."""
    longest_prompt = 20
    tokens = 2 * 4 * (longest_prompt + SETTINGS.max_new_tokens)
    return 2 * tokens * path_length(model)


def test_micro_batches_and_checkpointing_do_not_change_the_first_step(tiny_policy, tmp_path):
    norms = []
    for number, change in enumerate(({}, {"micro_batch": 3}, {"gradient_checkpointing": True})):
        folder = tmp_path / str(number)
        changed = replace(SETTINGS, steps=1, **change)
        train(away_from_base(tiny_policy), PROMPTS, objective(), changed, folder)
        norms.append(read_history(folder)[-1]["grad_norm"])
    rounded = bound(terms_of_a_step(tiny_policy.base.model))
    assert norms[1:] == pytest.approx([norms[0]] * 2, rel=rounded)


def test_group_dpo_climbs_its_pair_loss(tiny_policy, tmp_path, monkeypatch):
    """The gradient that reaches the optimiser is autograd's of the pair loss on the same completions."""
    from gdpo.rewards.scoring import score_rewards
    from gdpo.training import trainer
    from gdpo.update.logprobs import score_tokens

    seen = {}
    original = trainer.Parts().differentiate

    def spy(model, rollouts, combination, advantages, settings, poll, **options):
        parameters = [p for p in model.parameters() if p.requires_grad]
        rows = [p for p in seen["batch"] for _ in range(4)]
        rewards = score_rewards(objective().rewards, rows, rollouts.completions, poll)
        totals = rewards.mean(0).view(2, 4)
        policy = score_tokens(model, rollouts, torch.arange(8), 1.0).logprobs.sum(1)
        with torch.no_grad(), model.disable_adapter():
            base = score_tokens(model, rollouts, torch.arange(8), 1.0).logprobs.sum(1)
        u = 0.1 * (policy - base).view(2, 4)
        assert u.abs().max() > 0.01  # the policy is not the base, so the ratios matter
        beats = totals[:, :, None] > totals[:, None, :]
        differences = u[:, :, None] - u[:, None, :]
        loss = -torch.nn.functional.logsigmoid(differences)[beats].mean()
        seen["expected"] = torch.autograd.grad(loss, parameters)
        return original(model, rollouts, combination, advantages, settings, poll, **options)

    def remember(*arguments):
        seen["batch"] = draw(*arguments)
        return seen["batch"]

    def step(optimizer, *_):
        seen["found"] = [p.grad.clone() for g in optimizer.param_groups for p in g["params"]]

    draw = trainer.draw
    monkeypatch.setattr(trainer, "draw", remember)
    monkeypatch.setattr(torch.optim.SGD, "step", step)
    settings = replace(SETTINGS, steps=1, optimizer="sgd", max_grad_norm=1e6)
    policy, parts = away_from_base(tiny_policy), trainer.Parts(differentiate=spy)
    train(policy, PROMPTS, objective("group_dpo"), settings, tmp_path / "run", parts=parts)
    assert any(g.abs().max() > 1e-6 for g in seen["expected"])
    for found, expected in zip(seen["found"], seen["expected"], strict=True):
        close(found, expected, terms_of_a_step(tiny_policy.base.model))


def test_kl_pull_is_the_gradient_of_the_divergence(tiny_policy, tmp_path):
    """At 1-token completions the divergence is a sum over the vocabulary, whose gradient autograd knows.

    With many samples the update's pull, -coefficient times the score-function estimate, approaches it.
    """
    from gdpo.policies.policy import trainable
    from gdpo.rollouts import sample
    from gdpo.update.logprobs import score_tokens
    from gdpo.update.passes import differentiate, log_ratios

    settings = replace(SETTINGS, max_new_tokens=1, micro_batch=4096, kl_coeff=1.0)
    with trainable(tiny_policy, rank=2, alpha=4, seed=0) as model:
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
        rollouts = sample(
            model,
            tiny_policy.base.tokenizer,
            PROMPTS[:1],
            group_size=4000,
            max_new_tokens=1,
            seed=0,
        )
        ratios = log_ratios(model, rollouts, settings, 1).sum(1)
        pull = -(ratios - ratios.mean())
        found = differentiate(
            model, rollouts, pull.double(), pull[None].double(), settings, lambda: None
        ).gradients

        ids, mask = rollouts.prompt_ids[:1], rollouts.prompt_mask[:1]
        policy = model(ids, attention_mask=mask).logits[0, -1].log_softmax(-1)
        with torch.no_grad(), model.disable_adapter():
            base = model(ids, attention_mask=mask).logits[0, -1].log_softmax(-1)
        divergence = (policy.exp() * (policy - base)).sum()
        exact = torch.autograd.grad(-divergence, [p for p in model.parameters() if p.requires_grad])
        assert float(divergence.detach()) > 0.05
        assert score_tokens(model, rollouts, torch.arange(2), 1.0).logprobs.shape == (2, 1)
    ours = torch.cat([gradient.flatten() for gradient in found.combined])
    theirs = torch.cat([g.flatten() for g in exact])
    assert float(torch.nn.functional.cosine_similarity(ours, theirs, dim=0)) > 0.97
    assert float(ours.norm() / theirs.norm()) == pytest.approx(1.0, abs=0.1)


def test_kl_coefficient_keeps_the_policy_near_its_base(tiny_policy, tmp_path):
    far = {0.0: 0.0, 1.0: 0.0}
    for coefficient in far:
        for seed in range(3):  # how far one run strays is mostly chance
            folder = tmp_path / f"{coefficient}-{seed}"
            settings = replace(
                SETTINGS, steps=25, group_size=8, kl_coeff=coefficient, eval_every=50, rng_seed=seed
            )
            train(tiny_policy, PROMPTS, objective(), settings, folder)
            far[coefficient] += sum(r["kl"] for r in read_history(folder)[-5:])
    assert far[1.0] < 0.5 * far[0.0]


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


def test_a_sampler_that_disagrees_with_the_update_is_noticed(tiny_policy, tmp_path, monkeypatch):
    from gdpo.training import loop

    original = loop.sample

    def wrong(*arguments, **options):
        found = original(*arguments, **options)
        return replace(found, logprobs=found.logprobs - 0.5 * found.completion_mask)

    monkeypatch.setattr(loop, "sample", wrong)
    with pytest.raises(TrainingError, match=r"disagree .* by 0\.5 nats"):
        train(tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "run")


def test_every_prompt_is_drawn_once_in_each_epoch_in_a_new_order():
    from gdpo.training.schedule import draw, learning_rate

    drawn = [p.text for step in range(1, 11) for p in draw(PROMPTS, 2, step, seed=3)]
    names = sorted(p.text for p in PROMPTS)
    chunks = [drawn[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(chunk) == names for chunk in chunks)
    assert len({tuple(chunk) for chunk in chunks}) > 1
    assert [learning_rate(1.0, step, 4) for step in (1, 2, 4, 9)] == [0.25, 0.5, 1.0, 1.0]
    assert learning_rate(1.0, 1, 0) == 1.0


def test_kl_estimate_by_hand():
    """Two tokens with d = log pi - log base = 0 and ln 2: (0 + (1/2 - 1 + ln 2)) / 2."""
    import math

    from gdpo.rollouts import Rollouts
    from gdpo.training.records import kl_estimate

    mask = torch.tensor([[True, True, False], [True, True, True]])
    rollouts = Rollouts(mask, mask, mask, mask, mask.float(), ())
    ratios = torch.tensor([[0.0, math.log(2), 9.0], [math.nan] * 3])
    assert kl_estimate(ratios, rollouts) == pytest.approx((math.log(2) - 0.5) / 2)


def test_stops_when_every_reward_has_held_its_target(tiny_policy, tmp_path):
    easy = combine_rewards([Reward("vowels", LetterShare("aeiou"), target=0.001)])
    settings = replace(SETTINGS, steps=50, eval_every=1, stop_when_converged=True)
    train(tiny_policy, PROMPTS, easy, settings, tmp_path / "run", heldout=PROMPTS)
    records = read_history(tmp_path / "run")
    assert records[-1]["step"] == 2  # evaluations at steps 0, 1 and 2
    assert [r["converged"] for r in records] == [False, False, True]


def test_other_settings_do_not_touch_a_run(tiny_policy, tmp_path):
    train(tiny_policy, PROMPTS, objective(), replace(SETTINGS, steps=1), tmp_path / "run")
    before = (tmp_path / "run" / "history.jsonl").read_bytes()
    with pytest.raises(TrainingError, match="another `learning_rate`"):
        train(
            tiny_policy,
            PROMPTS,
            objective(),
            replace(SETTINGS, learning_rate=1e-3),
            tmp_path / "run",
        )
    with pytest.raises(TrainingError, match="another `prompts`"):
        train(tiny_policy, PROMPTS[:2], objective(), SETTINGS, tmp_path / "run")
    assert (tmp_path / "run" / "history.jsonl").read_bytes() == before


def test_fewer_steps_than_a_run_has_are_refused(tiny_policy, tmp_path):
    train(tiny_policy, PROMPTS, objective(), replace(SETTINGS, steps=2), tmp_path / "run")
    with pytest.raises(TrainingError, match="already trained for 2 steps"):
        train(tiny_policy, PROMPTS, objective(), replace(SETTINGS, steps=1), tmp_path / "run")


def test_other_weights_under_the_same_name_are_another_run(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    train(
        load_policy(folder, device="cpu"),
        PROMPTS,
        objective(),
        replace(SETTINGS, steps=1),
        tmp_path / "run",
    )
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "model")
    again = replace(SETTINGS, steps=1)
    train(
        load_policy(moved, device="cpu"), PROMPTS, objective(), again, tmp_path / "run"
    )  # the same model
    make_model(folder, seed=1)
    with pytest.raises(TrainingError, match="another `weights`"):
        train(load_policy(folder, device="cpu"), PROMPTS, objective(), again, tmp_path / "run")


def test_two_trainings_do_not_share_a_folder(tiny_policy, tmp_path):
    class Nested(Progress):
        def record(self, record):
            train(tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "run")

    with pytest.raises(TrainingError, match="is being trained right now"):
        train(tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "run", progress=Nested())


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


def test_a_run_folder_that_cannot_be_made_is_named(tiny_policy, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match=r"file/run.*cannot be written"):
        train(tiny_policy, PROMPTS, objective(), SETTINGS, tmp_path / "file" / "run")


def test_training_without_prompts_is_refused(tiny_policy, tmp_path):
    with pytest.raises(TrainingError, match="no prompts"):
        train(tiny_policy, [], objective(), SETTINGS, tmp_path / "run")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 10**9),
        ("group_size", 1),
        ("learning_rate", float("nan")),
        ("optimizer", "lion"),
        ("temperature", -1.0),
        ("learning_rate", float("inf")),
        ("micro_batch", "many"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(field, value):
    with pytest.raises(TrainingError, match=f"`{field}`") as caught:
        replace(SETTINGS, **{field: value})
    assert "\n" not in str(caught.value)


def test_run_json_says_what_the_run_is(reference):
    content = json.loads((reference / "run.json").read_text())
    assert content["identity"]["method"] == "gdpo"
    assert content["identity"]["settings"]["learning_rate"] == 1e-2
    assert content["versions"]["torch"]


def test_a_reward_that_can_score_no_prompt_is_refused_before_the_run_folder_is_made(
    tiny_policy, tmp_path
):
    wrong = combine_rewards([Reward("right", AnswerMatch(mode="numeric"))])
    rows = [replace(p, fields={"answer": "#### 72"}) for p in PROMPTS]
    with pytest.raises(RewardError, match=r"can score none of the 5 prompts.*'answer'"):
        train(tiny_policy, rows, wrong, SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_reward_that_can_score_some_prompts_is_told_and_trains(tiny_policy, tmp_path, caplog):
    some = combine_rewards([*objective().rewards, Reward("right", AnswerMatch(mode="numeric"))])
    rows = [replace(p, fields={"reference": 72} if i < 2 else {}) for i, p in enumerate(PROMPTS)]
    train(tiny_policy, rows, some, replace(SETTINGS, steps=1), tmp_path / "run")
    assert "can score 2 of 5 prompts (40 %)" in caplog.text
