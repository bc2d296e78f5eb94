"""Merging gives the trained model and leaves the policy as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gguf_models import (
    exported,
    logits_of,
    model_folder,
    needs_llama,
    tuned,
)
from rounding import same_scores

from gdpo.export.merge import full_precision, save_merged
from gdpo.export.pipeline import export_gguf
from gdpo.export.verify import compare_file
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import Policy, attached
from gdpo.progress import Progress


@needs_llama
def test_a_4_bit_base_is_merged_in_full_precision(tmp_path):
    pytest.importorskip("bitsandbytes")
    folder = model_folder()
    quantised = load_policy(folder, precision="nf4", device="cpu")
    policy = Policy(quantised.base, exported().policy.adapter)
    (file,) = export_gguf(policy, tmp_path / "gguf", "nf4", types=["F16"])
    assert file.report.holds is True
    beside = Path(f"{file.path}.json").read_text(encoding="utf-8")
    assert json.loads(beside) == file.report.to_json()
    # The same adapter on the fp32 base is the reference: nothing of the 4 bits is left.
    material, reference = logits_of(exported().policy)
    found = compare_file(file.path, exported().policy, material, reference, tmp_path, Progress())
    assert found.kl <= 1e-3


def test_the_merged_folder_is_the_trained_model_and_the_policy_stays_as_it_was(tmp_path):
    base = load_policy(model_folder(), device="cpu")
    policy = tuned(base)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad(), attached(policy) as model:
        wanted = model(ids).logits
    with attached(full_precision(policy, model_folder(), "fp32")) as model:
        save_merged(model, model_folder(), tmp_path)
    merged = load_policy(tmp_path, device="cpu").base
    with torch.no_grad():
        same_scores(merged.model(ids).logits, wanted, merged.model)
        assert not torch.allclose(base.base.model(ids).logits, wanted, atol=1e-2)
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        assert (tmp_path / name).read_bytes() == (model_folder() / name).read_bytes()
