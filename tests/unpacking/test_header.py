"""The header of a GGUF file is read within bounds: no number in it can ask for memory or time."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest
from gguf_models import exported, needs_llama
from gguf_writing import entry, text, whole_file

from gdpo.unpacking.cursor import HeaderError
from gdpo.unpacking.header import header_bytes, read_header

NOTHING = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)


def head(entries: int = 0, tensors: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries)


def listed(count: int, kind: int = 8) -> bytes:
    return head(1) + text("k") + struct.pack("<IIQ", 9, kind, count)


CASES = {
    "empty": (b"", "in the middle of its header"),
    "other magic": (b"PK\x03\x04" + bytes(40), "it is no GGUF file .it starts with b'PK"),
    "first version": (head(version=1), "of version 1"),
    "big-endian": (head(version=3 << 24), "big-endian"),
    "endless entries": (head(entries=2**63), "entries"),
    "endless tensors": (head(tensors=2**63), "tensors"),
    "endless key": (head(1) + struct.pack("<Q", 2**62), "in the middle of its header"),
    "endless text": (head(1) + text("k") + struct.pack("<IQ", 8, 2**63), "in the middle"),
    "endless list of texts": (listed(2**62), "a list of"),
    "endless list of numbers": (listed(2**62, 10), "a list of"),
    "list of lists": (listed(1, 9) + bytes(99), "a list of"),
    "list that is not there": (listed(3_999_999, 12), "in the middle of its header"),
    "unknown type": (head(1) + text("k") + struct.pack("<I", 99), "unknown type 99"),
    "no text": (head(1) + struct.pack("<Q", 1) + b"\xff", "no UTF-8"),
    "key twice": (head(2) + 2 * entry("k", 1), "two entries 'k'"),
    "alignment of nothing": (head(1) + entry("general.alignment", 0), "power of two"),
    "alignment that is odd": (head(1) + entry("general.alignment", 33), "power of two"),
    "alignment in words": (head(1) + entry("general.alignment", "x"), "power of two"),
    "many dimensions": (head(0, 1) + text("t") + struct.pack("<I", 2**31), "table of tensors"),
    "tensor without name": (head(0, 1) + text("") + struct.pack("<I", 1), "table of tensors"),
    "cut off": (whole_file({"a": "b"}, {"t": (4,)})[:40], "in the middle of its header"),
}


def read(data: bytes):
    return read_header(Path("x.gguf"), data, len(data))


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_header_is_refused_at_once(case):
    data, words = CASES[case]
    began = time.process_time()
    with pytest.raises(HeaderError, match=words) as caught:
        read(data)
    assert time.process_time() - began < 1
    assert len(str(caught.value)) < 200


def test_a_header_of_many_empty_texts_ends_soon():
    data = head(1) + text("k") + struct.pack("<IIQ", 9, 8, 10**6) + bytes(8 * 10**6)
    began = time.process_time()
    assert len(read(data).entries) == 1
    assert time.process_time() - began < 5


def test_each_cut_of_a_header_is_noticed():
    data = whole_file({"a": "b", "n": 7, "l": ["x", "yz"]}, {"t": (4, 2), "u": (8,)})
    end = len(read(data).bytes)
    assert all(_is_refused(data[:length]) for length in range(end))
    assert not _is_refused(data[:end])


def _is_refused(data: bytes) -> bool:
    try:
        read(data)
    except HeaderError:
        return True
    return False


def test_values_and_places_by_hand():
    header = read(
        whole_file({"general.architecture": "z", "z.n": 7, "l": ["x", "yz"]}, {"t": (4, 2)})
    )
    assert header.architecture == "z"
    assert header.of_architecture("n") == 7
    assert header.value("l") == ["x", "yz"]
    assert header.raw("l") == entry("l", ["x", "yz"])
    assert header.value("absent", 3) == 3
    assert header.text("z.n") == ""
    assert [(one.name, one.shape, one.offset) for one in header.tensors] == [("t", (4, 2), 0)]
    assert header.weights == 8
    assert header.data % 32 == 0
    assert 0 <= header.data - len(header.bytes) < 32


@needs_llama
def test_a_real_file_reads_as_by_the_gguf_library():
    from gguf import GGUFReader

    path = exported().files["Q4_K_M"].path
    reader, data = GGUFReader(path), path.read_bytes()
    header = read_header(path, data[: header_bytes()], len(data))
    fields = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert {key: header.value(key) for key in header.entries} == {
        key: field.contents() for key, field in fields.items()
    }
    places = [(one.name, header.data + one.offset, list(one.shape)) for one in header.tensors]
    assert places == [(t.name, t.data_offset, [int(n) for n in t.shape]) for t in reader.tensors]
