"""The table of tensors in a GGUF file, against the gguf library's own writer and reader."""

from __future__ import annotations

import numpy as np
import pytest

from gdpo.llamacpp.tensor_table import read_table


def written(path, *, alignment: int | None = None):
    """A small file with values of every kind, and the library's own list of its tensors."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quantize

    writer = GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_name("ein Name mit ü")
    writer.add_array("tokenizer.ggml.tokens", ["a", "", "字", "\n"])
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0])
    writer.add_array("some.flags", [True, False])
    writer.add_bool("some.flag", True)
    writer.add_uint64("some.number", 2**40)
    rows = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32)
    kind = GGMLQuantizationType.Q5_0
    writer.add_tensor("packed.weight", quantize(rows, kind), raw_dtype=kind)
    writer.add_tensor("half.weight", rows[:, :10].astype(np.float16))
    writer.add_tensor("norm.weight", rows[0, :7])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GGUFReader(path).tensors


@pytest.mark.parametrize("alignment", [None, 64])
def test_the_table_is_what_the_library_reads(tmp_path, alignment):
    expected = written(tmp_path / "x.gguf", alignment=alignment)
    found = read_table(tmp_path / "x.gguf")
    assert len(found) == 3
    for tensor, own in zip(found, expected, strict=True):
        assert tensor.name == own.name
        assert tensor.shape == tuple(int(size) for size in own.shape)
        assert tensor.type == own.tensor_type.name
        assert (tensor.start, tensor.bytes) == (int(own.data_offset), int(own.n_bytes))
        assert tensor.weights == int(own.n_elements)


def test_what_is_no_whole_file_is_refused(tmp_path):
    written(tmp_path / "x.gguf")
    whole = (tmp_path / "x.gguf").read_bytes()
    for cut in (3, 20, 30, 60, 200):
        (tmp_path / "cut.gguf").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="GGUF file"):
            read_table(tmp_path / "cut.gguf")
    (tmp_path / "other.gguf").write_bytes(b"PK\x03\x04" + whole[4:])
    with pytest.raises(ValueError, match="no GGUF file"):
        read_table(tmp_path / "other.gguf")
