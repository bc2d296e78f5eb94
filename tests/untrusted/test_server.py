"""A running ComfyUI with this pack is attacked, where GDPO_COMFYUI holds its address."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request

import pytest
from fence import STARTER
from quick_graphs import gate, graph, without

SERVER = os.environ.get("GDPO_COMFYUI", "").rstrip("/")


def ask(path: str, data: object = None) -> tuple[int, dict]:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(SERVER + path, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def queue(made: dict) -> str:
    """What the server says to a graph: the error of validation, or of the node that failed."""
    status, answer = ask("/prompt", {"prompt": made})
    if status != 200 or answer.get("node_errors"):
        return json.dumps(answer)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = ask(f"/history/{answer['prompt_id']}")[1].get(answer["prompt_id"])
        if found:
            assert found["status"]["status_str"] == "error", "the attack was carried out"
            return json.dumps(found["status"]["messages"][-1])
        time.sleep(0.1)
    raise AssertionError("the server did not finish")


def any_typed(**changes) -> dict:
    """The training gets values through an any-type output, which no validation looks at."""
    made = graph()
    for number, (name, value) in enumerate(changes.items()):
        made[f"any{number}"] = {"class_type": "PrimitiveString", "inputs": {"value": value}}
        made["8"]["inputs"][name] = [f"any{number}", 0]
    return made


SERVED = {
    "parent": (lambda: graph(run_name="../../x"), "plain name"),
    "absolute": (lambda: graph(run_name="/tmp/x"), "plain name"),
    "NUL byte": (lambda: graph(run_name="a\0b"), "plain name|NUL"),
    "Windows device": (lambda: graph(run_name="nul.txt"), "Windows reserves"),
    "very long": (lambda: graph(run_name="x" * 100_000), "longer than"),
    "linked run name": (lambda: any_typed(run_name="../../../x"), "plain name"),
    "steps": (lambda: graph(steps=10**9), "bigger than|above"),
    "text for a number": (lambda: graph(steps="many"), "invalid|convert"),
    "NaN": (lambda: graph(learning_rate="nan"), "finite"),
    "hub path": (
        lambda: without(graph(), "1", inputs={"model": STARTER, "hub_model": "../../x"}),
        "hub_model",
    ),
    "hub URL": (
        lambda: without(
            graph(), "1", inputs={"model": STARTER, "hub_model": "https://x.example/m"}
        ),
        "hub_model",
    ),
    "download": (
        lambda: without(graph(), "1", inputs={"model": STARTER, "hub_model": "no-such/model-here"}),
        "switched off",
    ),
    "prompt file": (lambda: without(graph(), "2", inputs={"file": "../../x.txt"}), "not in"),
    "gates in a ring": (lambda: gate(gate(graph(), "4", "5"), "5", "4"), "."),
    "model from a text": (lambda: any_typed(model="/etc/passwd"), "mismatch|GDPO_MODEL"),
    "catastrophic pattern": (
        lambda: without(
            graph(),
            "4",
            class_type="GDPODefineRewardPattern",
            inputs={"name": "p", "pattern": "(a{1000}){1000}", "syntax": "regex"},
        ),
        "too often",
    ),
    "remote schema": (
        lambda: without(
            graph(),
            "4",
            class_type="GDPODefineRewardJSONSchema",
            inputs={"name": "p", "schema": '{"$ref": "http://x.example"}'},
        ),
        "inside the schema",
    ),
    "node id": (
        lambda: {
            **graph(run_name="../x"),
            "../../x": {"class_type": "GDPOLoadModel", "inputs": {"model": STARTER}},
        },
        "plain name",
    ),
}


@pytest.mark.comfyui
@pytest.mark.skipif(not SERVER, reason="GDPO_COMFYUI holds no address of a running ComfyUI")
@pytest.mark.parametrize("case", SERVED)
def test_server_refuses_and_lives(case):
    make, message = SERVED[case]
    made = make()
    for output in ("10", "11", "12"):  # the training and its plot are enough
        made.pop(output)
    said = queue(made)
    assert re.search(message, said), said
    assert ask("/system_stats")[0] == 200
