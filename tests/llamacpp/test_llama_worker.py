"""The processes in which llama.cpp runs: their errors become messages, and they end when told to."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from gguf_models import exported, needs_llama
from loaded_pack import ROOT
from rounding import bound, path_length

from gdpo.errors import ExportError, InferenceError
from gdpo.llamacpp.runtime import LLAMA_WORKER
from gdpo.workers.process import run_worker


def script(folder: Path, body: str) -> Path:
    """A worker that runs `body`; `request` and `response` are the paths it was given."""
    path = folder / "worker.py"
    path.write_text(
        f"import os, sys, time\nrequest, response = sys.argv[1:]\n{body}\n", encoding="utf-8"
    )
    return path


def quantize(source: Path, target: Path, ftype: int = 15) -> list[dict]:
    request = {"task": "Quantising", "command": "quantize", "source": str(source)}
    return run_worker(LLAMA_WORKER, request | {"target": str(target), "ftype": ftype})


def test_lines_of_the_response_are_counted_and_returned(tmp_path):
    body = "f = open(response, 'w')\nfor i in range(3):\n    f.write('{\"i\": %d}\\n' % i); f.flush(); time.sleep(0.3)"
    seen: list[int] = []
    lines = run_worker(script(tmp_path, body), {}, on_lines=seen.append)
    assert [line["i"] for line in lines] == [0, 1, 2]
    assert seen == sorted(seen)
    assert seen[-1] == 3


def test_an_error_line_is_the_message_of_the_asked_for_class(tmp_path):
    body = "open(response, 'w').write('{\"error\": \"no such tensor.\"}\\n'); sys.exit(1)"
    with pytest.raises(InferenceError, match=r"^Chatting failed: no such tensor\.$"):
        run_worker(script(tmp_path, body), {"task": "Chatting"}, error=InferenceError)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has exit codes instead of signals")
def test_an_abort_is_an_error_that_names_signal_and_assertion(tmp_path):
    body = "sys.stderr.write('x.c:1: GGML_ASSERT(n > 0) failed\\n'); sys.stderr.flush(); os.abort()"
    with pytest.raises(
        ExportError, match=r"ended by SIGABRT \(x\.c:1: GGML_ASSERT\(n > 0\) failed\)"
    ):
        run_worker(script(tmp_path, body), {})


def test_a_worker_that_ends_without_an_answer_is_an_error(tmp_path):
    with pytest.raises(ExportError, match=r"ended with code 0 \(it left no message\)"):
        run_worker(script(tmp_path, "pass"), {})


@pytest.mark.skipif(sys.platform == "win32", reason="asks for a process by signal 0")
def test_a_cancelled_worker_is_killed(tmp_path):
    pid_file = tmp_path / "pid"
    ended = tmp_path / "ended"
    body = f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60); open({str(ended)!r}, 'w')"

    def poll() -> None:
        if pid_file.exists() and pid_file.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_worker(script(tmp_path, body), {}, poll=poll)
    assert not ended.exists()  # it was not waited for
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_idle_threads_of_a_worker_spin_for_a_moment_unless_the_user_says_otherwise(
    tmp_path, monkeypatch
):
    body = (
        "import json\nnames = ['GOMP_SPINCOUNT', 'OMP_WAIT_POLICY', 'GGML_NO_BACKTRACE']\n"
        "open(response, 'w').write(json.dumps([os.environ.get(n) for n in names]) + '\\n')"
    )
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert run_worker(script(tmp_path, body), {}) == [["20000", None, "1"]]
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert run_worker(script(tmp_path, body), {}) == [[None, "active", "1"]]


@needs_llama
def test_quantising_garbage_gives_llama_cpps_reason_and_no_file(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(ExportError, match=r"Quantising failed: .*(version|invalid|gguf|GGUF)"):
        quantize(tmp_path / "bad.gguf", tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


@needs_llama
def test_a_file_is_never_quantised_onto_itself_or_another(tmp_path):
    source = tmp_path / "m.gguf"
    source.write_bytes(exported().files["F16"].path.read_bytes())
    with pytest.raises(ExportError, match=r"m\.gguf exists already"):
        quantize(source, source)
    assert source.read_bytes() == exported().files["F16"].path.read_bytes()


@needs_llama
def test_requantising_a_quantised_file_is_refused(tmp_path):
    with pytest.raises(ExportError, match="requantizing from type q8_0 is disabled"):
        quantize(exported().files["Q8_0"].path, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


@needs_llama
def test_logits_do_not_depend_on_the_sequences_before(tmp_path):
    request = {
        "command": "logits",
        "gguf": str(exported().files["F16"].path),
        "texts": ["thank you"],
        "add_bos": False,
        "conversations": [],
        "output": str(tmp_path / "logits.npy"),
    }
    sequences = [[5, 6, 7, 8, 9], [10, 11, 12]]
    first = run_worker(LLAMA_WORKER, request | {"sequences": sequences})[0]
    both = np.load(tmp_path / "logits.npy")
    run_worker(LLAMA_WORKER, request | {"sequences": sequences[1:]})
    alone = np.load(tmp_path / "logits.npy")
    tokenizer = exported().policy.base.tokenizer
    assert first["tokens"] == [tokenizer("thank you")["input_ids"]]
    assert both.shape == (8, len(tokenizer))
    allowed = bound(path_length(exported().policy.base.model), float(np.abs(alone).max()))
    np.testing.assert_allclose(both[5:], alone, rtol=0, atol=allowed)


def test_a_worker_that_does_nothing_is_noticed(tmp_path):
    with pytest.raises(ExportError, match=r"^Waiting failed: it did nothing for 1 s; try again"):
        run_worker(script(tmp_path, "time.sleep(600)"), {"task": "Waiting"}, idle_seconds=1.0)


def test_a_worker_that_computes_is_not_taken_for_idle(tmp_path):
    body = "while time.process_time() < 2: pass\nopen(response, 'w').write('{\"done\": true}\\n')"
    assert run_worker(script(tmp_path, body), {}, idle_seconds=1.5) == [{"done": True}]


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process by a signal")
def test_a_worker_ends_with_its_parent_and_its_folder_goes_at_the_next_start(tmp_path, monkeypatch):
    scratch, pid_file = tmp_path / "scratch", tmp_path / "pid"
    scratch.mkdir()
    body = f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\nwhile True: time.sleep(1)"
    parent = (
        "import sys; from pathlib import Path; from gdpo.workers.process import run_worker\n"
        "run_worker(Path(sys.argv[1]), {})"
    )
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", parent, str(script(tmp_path, body))], env=environment
    )
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    process.kill()
    process.wait()
    worker = psutil.Process(int(pid_file.read_text())) if alive(pid_file) else None
    if worker:
        psutil.wait_procs([worker], timeout=60)
    assert not alive(pid_file)
    assert list(scratch.glob("gdpo-*"))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    run_worker(script(tmp_path, "open(response, 'w').write('{}\\n')"), {})
    assert not list(scratch.iterdir())


def alive(pid_file: Path) -> bool:
    """Whether the process runs; one that ended stays a zombie where nobody waits for orphans."""
    try:
        return psutil.Process(int(pid_file.read_text())).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition) -> None:
    while not condition():
        time.sleep(0.05)


def test_a_temporary_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ExportError, match=r"temporary files cannot be written .*set TMPDIR"):
        run_worker(script(tmp_path, ""), {})
