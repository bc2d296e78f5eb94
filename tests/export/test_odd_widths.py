"""K-quants of models whose rows are no multiple of their blocks: written, counted, and judged like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import make_model
from gguf_models import PROMPTS, needs_llama, tuned

from gdpo.export.checks import plan_export
from gdpo.export.formats import FORMATS
from gdpo.export.pipeline import export_gguf
from gdpo.export.report import judge
from gdpo.export.tensors import Tensors
from gdpo.export.verify import FileCheck
from gdpo.llamacpp.tensor_table import read_table
from gdpo.policies.loading import load_policy


@needs_llama
@pytest.mark.parametrize(
    ("hidden", "inner", "kinds", "fitting"),
    [(160, 512, ("Q4_K_M", "Q6_K", "Q2_K"), 2), (96, 288, ("Q4_K_M",), 0)],
)
def test_a_model_of_odd_width_is_written_counted_and_judged(
    tmp_path, hidden, inner, kinds, fitting
):
    folder = make_model(tmp_path / "model", hidden_size=hidden, intermediate_size=inner)
    policy = tuned(load_policy(folder, device="cpu"))
    plan = plan_export(policy, tmp_path / "gguf", "odd", kinds)
    assert plan.fallen == set(kinds)
    files = export_gguf(policy, tmp_path / "gguf", "odd", types=kinds, prompts=PROMPTS)
    for kind, file in zip(kinds, files, strict=True):
        report, table = file.report, read_table(file.path)
        matrices = [tensor for tensor in table if len(tensor.shape) > 1]
        odd = [tensor for tensor in matrices if tensor.shape[0] % 256]
        # Two layers of seven matrices and the tied embedding; only the two that read `inner` may fit.
        assert (len(matrices), len(odd)) == (15, 15 - fitting)
        assert sum(report.fell_back.values()) == len(odd)
        assert set(report.fell_back) == {tensor.type for tensor in odd}
        assert not any("_K" in name for name in report.fell_back)
        assert any("_K" in name for name in report.tensor_types) == bool(fitting)
        size = sum(tensor.bytes for tensor in table)
        bits = 8 * size / sum(tensor.weights for tensor in table)
        assert report.bits_per_weight == pytest.approx(bits, abs=1e-3)
        assert FORMATS[kind].bits < bits < 9
        assert plan.parameters * FORMATS[kind].bits / 8 < size <= plan.bytes(kind)
        assert f"{len(odd)} of {len(table)} tensors fell back from {kind} to " in report.why
        assert f"no multiple of 256: {bits:.1f} bits per weight" in report.why
        assert report.holds is True
        assert json.loads(Path(f"{file.path}.json").read_text("utf-8")) == report.to_json()


def test_a_type_that_no_tensor_has_without_a_reason_does_not_hold():
    good = FileCheck(1e-3, 0.9, 10, (), ())
    fallen = Tensors({"Q5_0": 5, "F32": 2}, {"Q5_0": 5}, 5.6, 256)
    holds, why = judge("Q4_K_M", "fp32", good, fallen.types, fallen)
    assert holds is True
    assert "5 of 7 tensors fell back from Q4_K_M to Q5_0" in why
    silent = Tensors({"Q5_0": 5, "F32": 2}, {}, 5.6, 256)
    assert judge("Q4_K_M", "fp32", good, silent.types, silent)[0] is False
