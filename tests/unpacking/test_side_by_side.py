"""What transformers makes of a GGUF file, beside the file in llama.cpp: the same words, the same logits."""

from __future__ import annotations

from importlib.util import find_spec

import gguf
import pytest
import transformers
from gguf_families import FAMILIES, family_file
from gguf_models import needs_llama

from gdpo.errors import PolicyError
from gdpo.export.side_by_side import agreement
from gdpo.policies.base import Base
from gdpo.policies.policy import Policy
from gdpo.policies.tokenizer_class import load_tokenizer
from gdpo.unpacking import worker
from gdpo.unpacking.kinds import supported_architectures
from gdpo.unpacking.parts import read_parts


@needs_llama
@pytest.mark.parametrize("name", FAMILIES)
def test_both_compute_the_same(name, tmp_path, monkeypatch):
    monkeypatch.setattr(
        gguf, "GGUFReader", gguf.GGUFReader
    )  # which the worker replaces, in its own process
    path = family_file(name)
    if read_parts(path)[0].architecture not in supported_architectures():
        pytest.skip(f"transformers {transformers.__version__} reads no such file")
    steps = list(worker.unpack({"gguf": str(path), "folder": str(tmp_path), "dtype": "float32"}))
    assert steps[-1]["step"] == "saved"
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval().requires_grad_(False)
    tokenizer = load_tokenizer(str(tmp_path))
    policy = Policy(Base(model, tokenizer, str(path), "fp32", "cpu", ""))
    if name == "gemma2" and find_spec("transformers.integrations.gguf") is None:
        with pytest.raises(PolicyError, match="The tokenizer that transformers makes of"):
            agreement(policy)  # older versions merge its words in another order
        return
    found = agreement(policy)
    assert found.kl < 1e-5
    assert found.unexplained < 1e-5
    assert found.top1 > 0.97
    assert found.positions > 100
