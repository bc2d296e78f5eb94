"""A worker that answers many requests: it is limited, replaced when it has gone, and ends with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from gdpo.workers.standing import RefusedError, StandingWorker

PROGRAM = """
import json, os, sys, time
def take(mib):
    block = bytearray(2**20 * mib)
    return len(block)
while True:
    request = json.loads(lines.get())
    try:
        with limited(request["memory"], request["seconds"]):
            value = eval(request["code"], {"os": os, "time": time, "take": take, "sys": sys})
    except MemoryError:
        value = "memory"
    print(json.dumps({"pid": os.getpid(), "value": value}), flush=True)
"""
MEMORY, SECONDS = 64 * 2**20, 5


@pytest.fixture
def worker(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    made = StandingWorker(script)
    yield made
    made.stop()


def ask(
    worker: StandingWorker, code: str, *, memory: int = MEMORY, seconds: int = SECONDS, **options
):
    return worker.ask({"code": code}, memory=memory, seconds=seconds, **options)


def test_requests_are_answered_in_turn_by_one_process(worker):
    replies = [ask(worker, str(i)) for i in range(20)]
    assert [reply["value"] for reply in replies] == list(range(20))
    assert len({reply["pid"] for reply in replies}) == 1


def test_each_of_many_threads_gets_its_own_answer(worker):
    found: dict[int, int] = {}

    def work(i: int) -> None:
        found[i] = ask(worker, str(i))["value"]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: i for i in range(8)}


def test_a_long_request_arrives_whole(worker):
    text = "x" * 3_000_000
    assert ask(worker, f"len('{text}')")["value"] == len(text)


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux counts what a process has asked for"
)
def test_memory_is_limited_anew_for_each_request(worker):
    for _ in range(3):
        assert ask(worker, "take(40)")["value"] == 40 * 2**20
        assert ask(worker, "take(80)")["value"] == "memory"
    assert ask(worker, "take(80)", memory=2 * MEMORY)["value"] == 80 * 2**20


def test_time_is_limited_and_the_next_request_meets_a_new_process(worker):
    first = ask(worker, "1")["pid"]
    with pytest.raises(RefusedError, match=r"SIGXCPU|more than 1 s"):
        ask(worker, "sum(iter(int, 1))", seconds=1)
    reply = ask(worker, "2")
    assert reply["value"] == 2
    assert reply["pid"] != first


@pytest.mark.parametrize("code", ["os._exit(7)", "os.abort()", "sys.exit(1)"])
def test_a_worker_that_ends_over_a_request_is_an_error(worker, code):
    ask(worker, "1")
    with pytest.raises(RefusedError, match=r"ended (with code|by SIGABRT)"):
        ask(worker, code)
    assert ask(worker, "2")["value"] == 2


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="needs POSIX")
def test_a_worker_that_was_killed_between_requests_is_replaced(worker):
    for _ in range(3):
        pid = ask(worker, "1")["pid"]
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ask(worker, "2")["value"] == 2


def test_a_worker_that_leaves_while_it_is_asked_is_replaced(worker):
    """It does so after the answer, so that the next request may still reach it."""
    for number in range(5):
        code = "__import__('threading').Timer(0.05, os._exit, [0]).start()"
        assert ask(worker, code)["value"] is None
        time.sleep(0.045 + 0.002 * number)
        assert ask(worker, "2")["value"] == 2


def test_an_interrupt_ends_the_request_and_leaves_no_answer_behind(worker):
    pid = ask(worker, "1")["pid"]

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(worker, "time.sleep(60)", poll=stop)
    assert not psutil.pid_exists(pid)
    assert ask(worker, "3")["value"] == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
def test_a_forked_process_gets_a_worker_of_its_own_and_leaves_the_first_alone(worker):
    first = ask(worker, "1")["pid"]
    child = os.fork()
    if not child:
        own = ask(worker, "2")
        worker.stop()
        os._exit(0 if own["value"] == 2 and own["pid"] != first else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ask(worker, "3") == {"pid": first, "value": 3}


def test_a_worker_ends_with_its_parent_even_in_the_middle_of_a_request(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    code = (
        "import sys; from pathlib import Path; from gdpo.workers.standing import StandingWorker\n"
        "worker = StandingWorker(Path(sys.argv[1]))\n"
        "def ask(code): return worker.ask({'code': code}, memory=2**26, seconds=500)\n"
        "print(ask('1')['pid'], flush=True); ask('time.sleep(500)')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "program.py")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def test_a_worker_that_says_it_ends_is_not_asked_again(tmp_path):
    """It takes a while to end, in which it would be asked and answer nothing."""
    script = tmp_path / "program.py"
    script.write_text(
        "import json, os, time\n"
        "request = json.loads(lines.get())\n"
        'print(json.dumps({"pid": os.getpid(), "last": True}), flush=True)\n'
        "time.sleep(0.5)\n"
        "os._exit(1)\n"
    )
    worker = StandingWorker(script)
    assert len({ask(worker, "1")["pid"] for _ in range(3)}) == 3
