"""What transformers makes of a GGUF file, beside the file in llama.cpp: the same words, the same logits."""

from __future__ import annotations

import gguf
import pytest
import transformers
from gguf_families import FAMILIES, family_file
from gguf_models import needs_llama

from gdpo.export.side_by_side import agreement
from gdpo.policies.base import Base
from gdpo.policies.policy import Policy
from gdpo.policies.tokenizer_class import load_tokenizer
from gdpo.unpacking import worker


@needs_llama
@pytest.mark.parametrize("name", FAMILIES)
def test_both_compute_the_same(name, tmp_path, monkeypatch):
    monkeypatch.setattr(
        gguf, "GGUFReader", gguf.GGUFReader
    )  # which the worker replaces, in its own process
    path = family_file(name)
    steps = list(worker.unpack({"gguf": str(path), "folder": str(tmp_path), "dtype": "float32"}))
    assert steps[-1]["step"] == "saved"
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval().requires_grad_(False)
    tokenizer = load_tokenizer(str(tmp_path))
    found = agreement(Policy(Base(model, tokenizer, str(path), "fp32", "cpu", "")))
    assert found.kl < 1e-5
    assert found.unexplained < 1e-5
    assert found.top1 > 0.97
    assert found.positions > 100
