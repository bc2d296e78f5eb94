"""Files that a stranger handed over and that are none: pipes and devices keep nobody waiting, and end in one line."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from loaded_pack import submodule
from odd_files import ODD, SECONDS, ends, linked_pipe, refused, replace

from gdpo.export.model_checks import check_model
from gdpo.llamacpp.generate import generate as answer
from gdpo.plain_files import PlainFileError, open_plain, read_bytes, read_text
from gdpo.policies.configuration import read_config
from gdpo.policies.loading import load_policy
from gdpo.prompts import load_prompts, make_prompt

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.mark.parametrize("odd", ODD)
def test_only_regular_files_are_opened(odd, tmp_path):
    odd(tmp_path / "x")
    for read in (open_plain, read_bytes, read_text):
        assert isinstance(ends(lambda read=read: read(tmp_path / "x")), PlainFileError)


def test_a_socket_is_refused_and_a_limit_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(PlainFileError, match="it is a socket, not a file"):
            read_bytes(Path("s"))
    Path("f").write_bytes(b"a\r\nb\rc")
    assert read_text(Path("f"), 6) == "a\nb\nc"
    with pytest.raises(PlainFileError, match="it has more than 5 bytes"):
        read_bytes(Path("f"), 5)
    with pytest.raises(FileNotFoundError):
        read_bytes(Path("absent"))


# --- model folders ---------------------------------------------------------------------------------

MODEL_FILES = [
    *("config.json", "generation_config.json", "model.safetensors", "extra.safetensors"),
    *("model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"),
    *("special_tokens_map.json", "added_tokens.json", "merges.txt", "tokenizer.model"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/x.jinja"),
    *("preprocessor_config.json", "inner/config.json", "adapter_config.json", "spiece.model"),
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_model_with_an_odd_file_is_refused(name, odd, tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    replace(folder / name, odd)
    for read in (lambda: load_policy(folder, device="cpu"), lambda: read_config(folder)):
        assert str(folder) in refused(read)


@pytest.mark.parametrize("odd", ODD[:3])
def test_a_model_is_refused_with_anything_in_it_that_is_no_file(odd, tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    odd(folder / "notes")
    assert "notes" in refused(lambda: load_policy(folder, device="cpu"))


# --- single files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.txt"])
def test_an_odd_prompt_file_is_refused(name, odd, tmp_path):
    odd(tmp_path / name)
    assert name in refused(lambda: load_prompts(tmp_path / name))


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_gguf_is_refused(odd, tmp_path):
    pytest.importorskip("llama_cpp")
    odd(tmp_path / "x.gguf")
    options = {"max_new_tokens": 1, "temperature": 0.0, "seed": 0}
    work = lambda: answer(tmp_path / "x.gguf", [make_prompt("x")], **options)
    assert "x.gguf" in refused(work)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "name", ["convert_hf_to_gguf.py", "conversion/__init__.py", "conversion/llama.py", "gguf-py/gguf/x.py"]
)  # fmt: skip
def test_an_odd_converter_is_refused(name, odd, tiny_policy, tiny_folder, tmp_path):
    (tmp_path / "convert_hf_to_gguf.py").write_text('"LlamaForCausalLM"')
    replace(tmp_path / name, odd)
    model = tiny_policy.base.model
    config = {"architectures": ["LlamaForCausalLM"]}
    assert str(tmp_path) in refused(lambda: check_model(model, config, tiny_folder, tmp_path))


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_workflow_file_is_refused(odd, tmp_path):
    workflow_file, errors = submodule("nodes.headless.workflow_file"), submodule("gdpo.errors")
    odd(tmp_path / "x.json")
    error = ends(lambda: workflow_file.read_workflow(tmp_path / "x.json"))
    assert isinstance(error, errors.WorkflowError)
    assert "\n" not in str(error)


def test_an_odd_workflow_file_is_refused_by_the_program(tmp_path):
    linked_pipe(tmp_path / "x.json")
    program = Path(__file__).resolve().parents[1] / "nodes" / "headless" / "program.py"
    command = [sys.executable, str(program), "workflow", "--output", str(tmp_path / "out")]
    command += [str(tmp_path / "x.json"), "--set", "1.file=x.json"]
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path, check=False
    )
    assert found.returncode == 1
    assert found.stderr.startswith("error: ")
    assert len(found.stderr.splitlines()) == 1
