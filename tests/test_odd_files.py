"""Files that a stranger handed over and that are none: pipes and devices keep nobody waiting, and end in one line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gdpo import open_run
from gdpo.errors import GDPOError
from gdpo.export.model_checks import check_model
from gdpo.llamacpp.generate import generate as answer
from gdpo.objective.objective import combine_rewards
from gdpo.plain_files import PlainFileError, open_plain, read_bytes, read_text
from gdpo.plotting import figure
from gdpo.plotting.figure import plot_convergence
from gdpo.policies.configuration import read_config
from gdpo.policies.loading import load_policy
from gdpo.prompts import load_prompts, make_prompt
from gdpo.rewards import Conciseness, Reward
from gdpo.runs.choose import choose_folder
from gdpo.runs.history import newest_completion, read_history
from gdpo.runs.run_file import read_run
from gdpo.settings import TrainSettings
from gdpo.training.trainer import train

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
SECONDS = 20.0  # none of these takes one; a hang takes for ever
STEP = "checkpoints/step-000002"


def pipe(place: Path) -> None:
    os.mkfifo(place)


def linked_pipe(place: Path) -> None:
    os.mkfifo(place.with_name("a pipe"))
    place.symlink_to("a pipe")


def linked_zeros(place: Path) -> None:
    place.symlink_to("/dev/zero")


def folder_instead(place: Path) -> None:
    place.mkdir()


ODD = (pipe, linked_pipe, linked_zeros, folder_instead)


def ends(work: Callable[[], object]) -> object:
    """What `work` returns or raises; a failed test, not a blocked one, where it never does."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:  # noqa: BLE001  looked at below
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert found, "it waits for ever"
    return found[0]


def refused(work: Callable[[], object]) -> str:
    """The message of the project's error that `work` must raise."""
    error = ends(work)
    assert isinstance(error, GDPOError), repr(error)
    assert "\n" not in str(error)
    return str(error)


def replace(file: Path, odd: Callable[[Path], None]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    odd(file)


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


# --- run folders -----------------------------------------------------------------------------------

CHOSEN = TrainSettings(
    steps=2,
    prompts_per_step=1,
    group_size=2,
    max_new_tokens=2,
    lora_rank=1,
    checkpoint_every=1,
)


def begin(policy, folder: Path) -> object:
    """The one training of this file, which resumes a run that is there."""
    reward = Reward("short", Conciseness(unit="characters", shortest=0, longest=9))
    rows = [make_prompt("the printer")]
    return train(policy, rows, combine_rewards([reward]), CHOSEN, folder)


@pytest.fixture(scope="module")
def run(tiny_folder, tmp_path_factory) -> tuple[object, Path]:
    """A policy, and a finished run of it."""
    policy = load_policy(tiny_folder, device="cpu")
    folder = tmp_path_factory.mktemp("runs") / "run"
    begin(policy, folder)
    return policy, folder


def without_sums(folder: Path) -> None:
    """Make the newest checkpoint one of the first format, whose files no sum vouches for."""
    file = folder / STEP / "state.json"
    kept = ("step", "optimizer", "director")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({key: content[key] for key in kept}))


CHECKPOINT = [
    *(f"{STEP}/state.json", f"{STEP}/adapter_config.json", f"{STEP}/adapter_model.safetensors"),
    *(f"{STEP}/optimizer.safetensors", f"{STEP}/more.json"),
]
RUN_FILES = [
    *("run.json", "history.jsonl", "completions.jsonl", "convergence.png", ".lock", *CHECKPOINT),
    *("checkpoints", "checkpoints/damaged-step-000002", "checkpoints/step-000003", ".x.tmp"),
    *("adapter", ".adapter.tmp", "adapter/adapter_config.json", "gguf", "gguf/.export-x/.lock"),
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", [*RUN_FILES, *(f"old {name}" for name in CHECKPOINT)])
def test_a_run_with_an_odd_file_ends_in_a_result_or_one_line(name, odd, run, tmp_path, monkeypatch):
    policy, real = run
    identity = read_run(real)["identity"]
    folder = shutil.copytree(real, tmp_path / "run")
    if name.startswith("old "):
        without_sums(folder)
        name = name.removeprefix("old ")
    if (folder / name).is_dir():
        shutil.rmtree(folder / name)
    replace(folder / name, odd)
    monkeypatch.setattr(figure, "DOTS_PER_INCH", 10)
    readers: list[Callable[[], object]] = [
        lambda: read_history(folder),
        lambda: newest_completion(folder),
        lambda: open_run(folder).load(device="cpu"),
        lambda: plot_convergence({"run": read_history(folder)}, folder / "convergence.png"),
        lambda: choose_folder(tmp_path, "run", identity, fresh=False),
        lambda: begin(policy, folder),
    ]
    for reader in readers:
        found = ends(reader)
        assert isinstance(found, GDPOError) or not isinstance(found, BaseException), repr(found)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "name", ["run.json", "history.jsonl", "completions.jsonl", "findings.json", ".lock"]
)
def test_a_training_begins_in_a_folder_with_an_odd_file_or_says_why_not(name, odd, run, tmp_path):
    replace(tmp_path / "run" / name, odd)
    found = ends(lambda: begin(run[0], tmp_path / "run"))
    assert isinstance(found, GDPOError) or not isinstance(found, BaseException), repr(found)


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
def test_an_odd_converter_is_refused(name, odd, run, tmp_path):
    (tmp_path / "convert_hf_to_gguf.py").write_text('"LlamaForCausalLM"')
    replace(tmp_path / name, odd)
    model = run[0].base.model
    config = {"architectures": ["LlamaForCausalLM"]}
    refused(lambda: check_model(model, config, run[1], tmp_path))


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_workflow_file_is_refused_by_the_program(odd, tmp_path):
    odd(tmp_path / "x.json")
    program = Path(__file__).resolve().parents[1] / "nodes" / "headless" / "program.py"
    command = [sys.executable, str(program), "workflow", "--output", str(tmp_path / "out")]
    command += [str(tmp_path / "x.json"), "--set", "1.file=x.json"]
    found = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path, check=False
    )
    assert found.returncode == 1
    assert found.stderr.startswith("error: ")
    assert len(found.stderr.splitlines()) == 1
