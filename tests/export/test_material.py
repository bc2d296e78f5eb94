"""What files are compared on: the answers that the training was about, and the ends that it knew."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from gguf_models import PROMPTS, REWARDS, copied, exported, needs_llama

from gdpo.export import material
from gdpo.export.material import gather, reference_logits
from gdpo.export.pipeline import export_gguf
from gdpo.export.verify import compare_file
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import attached
from gdpo.progress import Progress
from gdpo.prompts import make_prompt
from gdpo.rewards.scoring import score_rewards
from gdpo.rollouts import sample


def of_run(folder, settings: object):
    """The tuned policy, as one that a run in `folder` with these settings made."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": 1, "identity": {"settings": settings}}
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")
    return dataclasses.replace(exported().policy, run=folder)


@needs_llama
def test_the_reports_rewards_are_those_of_answers_as_long_as_in_the_training(tmp_path):
    policy = of_run(tmp_path / "run", {"max_new_tokens": 5})
    with attached(policy) as model:
        asked = {"max_new_tokens": 5, "temperature": 0.0, "seed": 0}
        answers = sample(model, policy.base.tokenizer, PROMPTS, **asked).completions
    wanted = score_rewards(REWARDS, PROMPTS, answers).nanmean(1).tolist()
    (file,) = export_gguf(
        policy, tmp_path / "gguf", "m", types=["F16"], prompts=PROMPTS, rewards=REWARDS
    )
    assert file.report.max_new_tokens == 5
    for reward, mean in zip(REWARDS, wanted, strict=True):
        assert file.report.rewards[reward.name] == pytest.approx({"policy": mean, "gguf": mean})


@needs_llama
def test_short_answers_are_of_more_prompts_and_none_goes_beyond_the_training(tmp_path):
    prompts = tuple(make_prompt(f"order {number}") for number in range(40))
    found = gather(of_run(tmp_path / "a", {"max_new_tokens": 4}), prompts, Progress())
    assert len(found.prompts) == 32
    assert max(answer.tokens for answer in found.answers) == 4
    assert len(gather(exported().policy, prompts, Progress()).prompts) == 8


@pytest.mark.parametrize("settings", [{}, {"max_new_tokens": "many"}, {"max_new_tokens": -1}, []])
def test_a_run_that_does_not_say_how_long_answers_were_is_told(tmp_path, caplog, settings):
    policy = of_run(tmp_path, settings)
    assert gather(policy, PROMPTS[:1], Progress()).new_tokens == 128
    assert "How long answers were in the training is not known" in caplog.text


@needs_llama
def test_of_a_long_prompt_the_answer_is_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(material, "_SEQUENCE", 8)
    policy = of_run(tmp_path / "run", {"max_new_tokens": 6})
    found = gather(policy, PROMPTS, Progress())
    assert found.last == (8,) * len(PROMPTS)
    assert all(len(sequence) > 8 for sequence in found.sequences)
    with attached(policy) as model:
        logits = reference_logits(model, found, Progress())
        with torch.no_grad():
            whole = model(torch.tensor([found.sequences[1]])).logits[0]
    torch.testing.assert_close(logits[1], whole[-8:], atol=1e-4, rtol=1e-4)
    path = exported().files["F16"].path
    check = compare_file(path, policy, found, logits, tmp_path, Progress())
    assert check.positions == 8 * len(PROMPTS)
    assert check.kl < 1e-3


@needs_llama
def test_an_end_token_that_the_file_does_not_know_does_not_hold(tmp_path):
    """Its answers would run on where those of the training ended."""
    folder = copied(tmp_path)
    before = gather(load_policy(folder, device="cpu"), PROMPTS, Progress())
    said = max(before.said)
    own = {"eos_token_id": [2, said]}
    (folder / "generation_config.json").write_text(json.dumps(own), encoding="utf-8")
    policy = load_policy(folder, device="cpu")
    assert said in gather(policy, PROMPTS, Progress()).ended
    (file,) = export_gguf(policy, tmp_path / "gguf", "m", types=["F16"], prompts=PROMPTS)
    assert file.report.holds is False
    name = policy.base.tokenizer.convert_ids_to_tokens(said)
    assert f"does not end an answer at the token {name!r}" in file.report.why
    shutil.rmtree(tmp_path / "gguf")
