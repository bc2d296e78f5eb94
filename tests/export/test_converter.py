"""Where llama.cpp's converter comes from, and what of it is unpacked."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from conftest import make_model

from gdpo.errors import ExportError
from gdpo.export import converter
from gdpo.export.formats import DIRECT_TYPES, EXPORT_TYPES
from gdpo.export.pipeline import export_gguf
from gdpo.policies.loading import load_policy


def test_the_users_checkout_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("GDPO_LLAMA_CPP", str(tmp_path))
    with pytest.raises(converter.ConverterError, match=r"has no convert_hf_to_gguf\.py"):
        converter.find_converter()
    (tmp_path / "convert_hf_to_gguf.py").touch()
    assert converter.find_converter() == tmp_path


def test_a_missing_converter_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("GDPO_LLAMA_CPP", raising=False)
    monkeypatch.setattr(converter, "_roots", lambda: [tmp_path])
    with pytest.raises(converter.ConverterError, match=r"install\.py` once, or set GDPO_LLAMA_CPP"):
        converter.find_converter()
    version = converter.runtime_version() or converter.DEFAULT_VERSION
    (tmp_path / version).mkdir()
    (tmp_path / version / "convert_hf_to_gguf.py").touch()
    assert converter.find_converter() == tmp_path / version
    assert converter.fetch_converter(tmp_path) == tmp_path / version  # there: nothing is downloaded


def make_archive(path: Path, names: list[str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 2
            tar.addfile(entry, io.BytesIO(b"x\n"))
    return path


def test_only_the_converter_is_unpacked(tmp_path):
    top = "llama_cpp_python-1/vendor/llama.cpp"
    wanted = ["convert_hf_to_gguf.py", "LICENSE", "conversion/llama.py", "gguf-py/gguf/a/b.py"]
    other = ["src/llama.cpp", "models/v.gguf", "conversion/x.bin", "tools/convert_hf_to_gguf.py"]
    archive = make_archive(tmp_path / "a.tar.gz", [f"{top}/{name}" for name in wanted + other])
    converter._unpack(archive, tmp_path / "out")
    files = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {tmp_path / "out" / top / name for name in wanted}


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    evil = "x/vendor/llama.cpp/conversion/../../../../../evil.py"
    archive = make_archive(tmp_path / "a.tar.gz", [evil])
    with pytest.raises(tarfile.OutsideDestinationError):
        converter._unpack(archive, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("evil.py"))


def test_the_menu_of_types_holds_what_was_promised():
    assert EXPORT_TYPES[:4] == DIRECT_TYPES
    assert {"Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS", "Q3_K_M", "Q2_K"} <= set(EXPORT_TYPES)


def test_a_base_that_changed_since_the_training_is_refused(tmp_path):
    folder = make_model(tmp_path / "base", hidden_size=256)
    policy = load_policy(folder, device="cpu")
    make_model(folder, seed=1, hidden_size=256)
    with pytest.raises(ExportError, match="has changed since it was loaded"):
        export_gguf(policy, tmp_path / "gguf", "changed", types=("F16",))
    assert not list((tmp_path / "gguf").glob("*"))
