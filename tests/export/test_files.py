"""What the exported files are: the policy, in fewer bits."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from conftest import make_tokenizer
from gguf_models import (
    REWARDS,
    exported,
    logits_of,
    needs_llama,
)

from gdpo.errors import ExportError
from gdpo.export.report import judge
from gdpo.export.tensors import count_tensors
from gdpo.export.verify import FileCheck, compare_file, divergence
from gdpo.policies.policy import Policy
from gdpo.progress import Progress


@needs_llama
def test_every_exported_type_holds_and_loses_more_with_fewer_bits():
    reports = {kind: file.report for kind, file in exported().files.items()}
    assert all(report.holds is True for report in reports.values())
    assert reports["F16"].kl <= 1e-3
    assert reports["F16"].top1 > 0.98
    assert reports["F16"].kl < reports["Q8_0"].kl < reports["Q4_K_M"].kl
    assert reports["F16"].positions > 100


@needs_llama
def test_files_have_their_types_and_reports_and_nothing_else_is_left():
    files = exported().files
    names = {f"tiny-{kind}.gguf{end}" for kind in files for end in ("", ".json")}
    assert {path.name for path in exported().folder.iterdir()} == names
    for kind, main in (("F16", "F16"), ("Q8_0", "Q8_0"), ("Q4_K_M", "Q4_K")):
        file = files[kind]
        assert file.report.tensor_types == count_tensors(file.path, kind).types
        assert file.report.tensor_types[main] > 10
        assert file.report.bytes == file.path.stat().st_size


@needs_llama
def test_rewards_of_the_f16_file_are_those_of_the_policy():
    # Greedy answers of nearly equal distributions are equal, so the means are too.
    rewards = exported().files["F16"].report.rewards
    assert set(rewards) == {reward.name for reward in REWARDS}
    for means in rewards.values():
        assert means["gguf"] == pytest.approx(means["policy"], abs=1e-6)


@needs_llama
def test_a_file_with_the_adapter_does_not_hold_against_the_base_alone(tmp_path):
    base = Policy(exported().policy.base)
    material, reference = logits_of(base)
    file = exported().files["F16"]
    found = compare_file(file.path, base, material, reference, tmp_path, Progress())
    holds, why = judge("F16", "fp32", found, file.report.tensor_types)
    assert found.kl > 0.01
    assert holds is False
    assert "distributions differ" in why


@needs_llama
def test_changed_weights_are_noticed(tmp_path):
    material, reference = logits_of(exported().policy)
    data = bytearray(exported().files["F16"].path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60_000] = bytes(60_000)  # zeros: about 3 % of the weights
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data)
    found = compare_file(damaged, exported().policy, material, reference, tmp_path, Progress())
    assert judge("F16", "fp32", found, {"F16": 1})[0] is False


@needs_llama
def test_a_truncated_file_is_an_error_with_llama_cpps_reason(tmp_path):
    material, reference = logits_of(exported().policy)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(exported().files["F16"].path.read_bytes()[:-100_000])
    with pytest.raises(
        ExportError, match=r"cut\.gguf cannot be loaded: .*not within the file bounds"
    ):
        compare_file(cut, exported().policy, material, reference, tmp_path, Progress())


@needs_llama
def test_a_file_with_another_tokenizer_is_refused_with_both_tokenisations(tmp_path):
    policy = exported().policy
    fewer = make_tokenizer(300)  # fewer merges: other tokens for the same text
    other = dataclasses.replace(policy, base=dataclasses.replace(policy.base, tokenizer=fewer))
    material, reference = logits_of(other)
    with pytest.raises(ExportError, match=r"tokenises .* differently: .*\[.*\].* gives \[.*\]"):
        compare_file(exported().files["F16"].path, other, material, reference, tmp_path, Progress())


@needs_llama
def test_another_chat_template_does_not_hold(tmp_path):
    policy = exported().policy
    changed = make_tokenizer()
    changed.chat_template = changed.chat_template.replace("assistant\n", "assistant:")
    other = dataclasses.replace(policy, base=dataclasses.replace(policy.base, tokenizer=changed))
    material, reference = logits_of(other)
    path = exported().files["F16"].path
    found = compare_file(path, other, material, reference, tmp_path, Progress())
    holds, why = judge("F16", "fp32", found, {"F16": 1})
    assert holds is False
    assert "chat template renders" in why


def test_divergence_of_a_hand_worked_case():
    # p = (3/4, 1/4), q = (1/2, 1/2): KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.13081; a second position with
    # p = q adds 0. The likeliest token is equal where q prefers token 0 as well: here a tie goes to 0.
    reference = [torch.tensor([[math.log(3.0), 0.0], [0.0, 2.0]])]
    logits = np.array([[0.0, 0.0], [0.0, 2.0]], dtype=np.float32)
    kl, top1 = divergence(reference, logits)
    assert kl == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2)
    assert top1 == 1.0


def test_a_kl_that_is_no_number_or_a_fallen_back_type_does_not_hold():
    nan = FileCheck(math.nan, 0.0, 10, (), ())
    assert judge("F16", "fp32", nan, {"F16": 5})[0] is False
    good = FileCheck(1e-3, 0.9, 10, (), ())
    assert judge("Q4_K_M", "fp32", good, {"Q4_K": 5, "F32": 2})[0] is True
    holds, why = judge("Q4_K_M", "fp32", good, {"Q5_0": 5, "F32": 2})
    assert holds is False
    assert "no Q4_K tensor but Q5_0, F32" in why


def test_a_file_whose_likeliest_tokens_differ_does_not_hold():
    holds, why = judge("Q8_0", "fp32", FileCheck(1e-3, 0.5, 10, (), ()), {"Q8_0": 5})
    assert holds is False
    assert "50% of the positions only, under 75%" in why
