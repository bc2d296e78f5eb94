"""Files that are another model than the trained one do not hold, however wide their type's own limit is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf_models import PROMPTS, change_json, exported, needs_llama

from gdpo.export import pipeline
from gdpo.export.conversion import quantize
from gdpo.export.merge import save_merged
from gdpo.export.pipeline import export_gguf
from gdpo.export.tensors import check_rounding
from gdpo.llamacpp.tensor_table import read_table


def without_adapter(model, source: Path, folder: Path) -> None:
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    save_merged(model, source, folder)


def layer_scaled(model, source: Path, folder: Path) -> None:
    with torch.no_grad():
        for parameter in model.get_base_model().model.layers[1].parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.05)
    save_merged(model, source, folder)


def other_rope(model, source: Path, folder: Path) -> None:
    save_merged(model, source, folder)
    file = folder / "config.json"
    rope = json.loads(file.read_text("utf-8")).get("rope_parameters") or {"rope_type": "default"}
    change_json(file, rope_theta=1000.0, rope_parameters=rope | {"rope_theta": 1000.0})


@needs_llama
@pytest.mark.parametrize("damage", [without_adapter, layer_scaled, other_rope])
def test_a_wrong_conversion_does_not_hold_in_any_type(tmp_path, monkeypatch, damage):
    """The F16 file is compared although nobody asked for it, and is not left behind."""
    policy, types = exported().policy, ("Q8_0", "Q4_0")  # made before anything is damaged
    monkeypatch.setattr(pipeline, "save_merged", damage)
    files = export_gguf(policy, tmp_path / "gguf", "x", types=types, prompts=PROMPTS)
    assert [file.report.holds for file in files] == [False, False]
    assert all("its source F16 has a KL of" in file.report.why for file in files)
    assert {path.name for path in (tmp_path / "gguf").glob("*.gguf")} == {
        f.path.name for f in files
    }


def scaled(path: Path, name: str, factor: float) -> None:
    """Multiply a tensor of a Q5_0 or Q4_0 file, whose blocks begin with their scale."""
    (tensor,) = (tensor for tensor in read_table(path) if tensor.name == name)
    blocks = tensor.weights // 32
    shape = (blocks, tensor.bytes // blocks)
    data = np.memmap(path, np.uint8, "r+", tensor.start, shape)
    scales = np.ascontiguousarray(data[:, :2]).view(np.float16)
    data[:, :2] = (scales.astype(np.float32) * factor).astype(np.float16).view(np.uint8)
    data.flush()


@needs_llama
def test_a_quantised_file_with_a_layer_that_rounding_does_not_explain_does_not_hold(
    tmp_path, monkeypatch
):
    def damaged(job, source, kind):
        path = quantize(job, source, kind)
        scaled(path, "blk.1.ffn_down.weight", 1.05)
        return path

    policy = exported().policy
    monkeypatch.setattr(pipeline, "quantize", damaged)
    (file,) = export_gguf(policy, tmp_path / "gguf", "x", types=["Q4_0"], prompts=PROMPTS)
    assert file.report.holds is False
    assert "weights of blk.1.ffn_down.weight (1.0" in file.report.why
    assert "KL of" not in file.report.why  # the limit of the type alone would have let it pass


@needs_llama
def test_rounding_explains_a_type_and_nothing_else(tmp_path):
    files, nothing = exported().files, lambda: None
    exact = files["F16"].path
    for kind in ("F16", "Q8_0", "Q4_K_M"):
        assert check_rounding(exact, files[kind].path, nothing).problems == ()
    table = {tensor.name: tensor for tensor in read_table(files["Q8_0"].path)}
    tensor = table["blk.0.attn_q.weight"]
    data = bytearray(files["Q8_0"].path.read_bytes())
    data[tensor.start : tensor.start + tensor.bytes // 8] = bytes(tensor.bytes // 8)
    zeroed = tmp_path / "zeroed.gguf"
    zeroed.write_bytes(data)
    (found,) = check_rounding(exact, zeroed, nothing).problems
    assert "blk.0.attn_q.weight (0.8" in found
