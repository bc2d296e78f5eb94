"""Texts that a stranger gives for names, ids and files are never a path out of the allowed folders."""

from __future__ import annotations

import math

import pytest
from fence import NODES, STARTER, TINY, call, refused
from loaded_pack import submodule

host = submodule("nodes.comfy.host")

NAMES = {
    "parent": "../../outside/x",
    "parents alone": "..",
    "absolute": "/etc/cron.d/x",
    "drive": "C:\\Windows\\x",
    "drive relative": "c:x",
    "UNC": "\\\\server\\share\\x",
    "device path": "\\\\.\\PhysicalDrive0",
    "NUL byte": "run\0/../../x",
    "Windows device": "nul",
    "Windows device with suffix": "COM1.safetensors",
    "Windows device in full width": "ＮＵＬ",
    "trailing dot": "run.",
    "stream": "run:stream",
    "very long": "x" * 100_000,
    "full-width dots and slash": "．．／．．／outside",
    "division slash": "..∕..∕outside",
    "one-dot leader": "‥/x",
    "right-to-left override": "run\u202egnp.exe",
    "home": "~/.ssh/authorized_keys",
    "variable": "$HOME",
    "percent escapes": "%2e%2e%2foutside",
    "shell": "x; touch outside/x",
    "line end": "run\nrun",
    "escape sequence": "\x1b]0;x\x07",
    "option": "-rf",
    "format string": "{0.__class__}",
    "empty": "   ",
}


@pytest.mark.parametrize("case", NAMES)
def test_run_name_that_is_no_plain_name_is_refused(case, fence, parts):
    refused(lambda: call("GDPOTrain", **parts, run_name=NAMES[case], **TINY), "run_name")
    assert NODES["GDPOTrain"].VALIDATE_INPUTS(run_name=NAMES[case]) is not True
    assert list(fence.folders.output.iterdir()) == []


@pytest.mark.parametrize("case", [case for case in NAMES if case != "empty"])
def test_export_name_that_is_no_plain_name_is_refused(case, fence, starter):
    refused(lambda: call("GDPOExportGGUF", model=starter, type="F16", name=NAMES[case]), "name")
    assert list(fence.folders.output.iterdir()) == []


def test_node_id_is_never_a_path(fence, parts):
    for node_id in ("../../outside/x", "a\0b", "x" * 10_000, "<img src=x>", 5, None):
        kept = {"unique_id": node_id, "workflow": {"x": math.nan}}
        call("GDPOTrain", **parts, run_name="a", **kept, **TINY)  # later ones find it finished
        assert [path.name for path in fence.folders.output.iterdir()] == ["gdpo"]
        assert [path.name for path in (fence.folders.output / "gdpo").iterdir()] == ["a"]


HUB_IDS = {
    "parent": "../outside",
    "absolute": "/etc",
    "inside out": "org/../../outside",
    "URL": "https://attacker.example/model",
    "file URL": "file:///etc/passwd",
    "UNC": "\\\\server\\share",
    "drive": "C:\\models",
    "NUL byte": "org/model\0",
    "three parts": "org/model/../..",
    "revision": "org/model@main",
    "query": "org/model?x=1",
    "own folder": "outside",
    "long": "a" * 200_000,
}


@pytest.mark.parametrize("case", HUB_IDS)
def test_hub_id_that_is_a_path_or_address_is_refused(case, fence):
    refused(
        lambda: call("GDPOLoadModel", model=STARTER, hub_model=HUB_IDS[case]),
        "hub_model|cannot be loaded|input",
    )


@pytest.mark.parametrize("switch", [None, "", "0", "true", "yes", " 1"])
def test_nothing_is_fetched_unless_the_owner_switched_it_on(switch, fence, monkeypatch):
    import huggingface_hub.constants

    # The tests' own switch would hide an attempt.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    if switch is not None:
        monkeypatch.setenv(host.DOWNLOAD_SWITCH, switch)
    refused(
        lambda: call("GDPOLoadModel", model=STARTER, hub_model="no-such-org/no-such-model"),
        "downloads are switched off",
    )


@pytest.mark.parametrize("file", ["../outside/secret.txt", "/etc/passwd", "outside", "a\0", "", 5])
def test_prompt_file_that_is_not_listed_is_refused(file, fence):
    refused(lambda: call("GDPOLoadPrompts", file=file), "input 'file'")
