"""A stranger's GGUF is refused with one line, and the process that reads it is not this one."""

from __future__ import annotations

import struct

import pytest
from fence import SECRET, call, errors, refused
from gguf_models import exported, needs_llama
from gguf_writing import rewritten
from hostile_models import TEMPLATES
from loaded_pack import submodule

export = submodule("gdpo.export.pipeline")

GGUFS = {
    "text": SECRET.encode(),
    "empty": b"",
    "magic alone": b"GGUF",
    "other version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    "endless tensors": b"GGUF" + struct.pack("<IQQ", 3, 2**63, 1),
    "endless key": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62) + b"x" * 100,
    "nothing in it": b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(200),
}


@needs_llama
@pytest.mark.parametrize("case", GGUFS)
def test_malformed_gguf_is_refused_and_the_process_lives(case, fence):
    path = fence.folders.output / "x.gguf"
    path.write_bytes(GGUFS[case])
    refused(lambda: call("GDPOChat", gguf=export.GGUF(path, "F16", {}), message="x"), "gguf")


@needs_llama
@pytest.mark.parametrize(
    "case",
    ["classes", "globals", "format", "endless recursion", "gigabytes", "endless words"],
)
def test_chat_template_in_a_gguf_can_neither_reach_python_nor_take_for_ever(case, fence):
    from gguf import GGUFReader

    path = fence.folders.output / "attack.gguf"
    path.write_bytes(exported().files["F16"].path.read_bytes())
    field = GGUFReader(path).get_field("tokenizer.chat_template")
    length = len(field.parts[field.data[0]])
    text = TEMPLATES[case].encode().ljust(length)  # of the same length, so that nothing else moves
    assert len(text) == length
    old = bytes(field.parts[field.data[0]])
    path.write_bytes(path.read_bytes().replace(old, text))
    refused(
        lambda: call("GDPOChat", gguf=export.GGUF(path, "F16", {}), message="x"),
        "chat template|RecursionError|SIGXCPU",
        errors.InferenceError,
    )


@pytest.mark.parametrize("case", GGUFS)
def test_malformed_gguf_is_no_base_either(case, fence):
    (fence.folders.models[0] / "x.gguf").write_bytes(GGUFS[case])
    refused(lambda: call("GDPOLoadModel", model="x.gguf", device="cpu"), "x.gguf")


@needs_llama
@pytest.mark.parametrize("case", ["endless recursion", "gigabytes"])
def test_chat_template_of_a_gguf_base_is_tried_where_it_costs_nothing(case, fence):
    path = fence.folders.models[0] / "x.gguf"
    template = TEMPLATES[case]
    rewritten(exported().files["F16"].path, path, tokenizer__chat_template=template)
    message = refused(lambda: call("GDPOLoadModel", model="x.gguf", device="cpu"), "x.gguf")
    assert "gdpo-gguf" not in str(message)
