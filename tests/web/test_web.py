"""The page's modules: their own tests, run by Node.js, and rules that keep strangers' texts harmless."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
SOURCES = sorted([*WEB.rglob("*.js"), *WEB.rglob("*.mjs")])
TESTS = sorted((ROOT / "tests" / "web").glob("*.test.mjs"))
# Ways by which a text could become HTML or code.
_UNSAFE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
)


def test_the_modules_pass_their_own_tests():
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed, so the tests below tests/web were not run")
    assert TESTS
    done = subprocess.run(
        [node, "--test", *map(str, TESTS)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_no_text_becomes_html_or_code():
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        assert text.startswith("// @ts-check"), source
        assert not _UNSAFE.search(text), source
        # The page loads nothing from elsewhere.
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), source


def test_every_imported_file_is_there():
    for source in SOURCES:
        for name in re.findall(r'from "([^"]+)"', source.read_text(encoding="utf-8")):
            if not name.startswith("../../scripts/"):  # ComfyUI's own
                assert (source.parent / name).is_file(), (source, name)


def test_the_chart_has_the_colours_and_markers_of_the_figure():
    from loaded_pack import submodule

    plot_data = submodule("gdpo.plotting.data")
    chart = (WEB / "chart_data.mjs").read_text(encoding="utf-8")
    colours = tuple(re.findall(r"#[0-9A-Fa-f]{6}", chart))
    (markers,) = re.findall(r"MARKERS = (\"[^\"]+\")", chart)
    assert colours == plot_data.COLOURS
    assert json.loads(markers) == plot_data.MARKERS


def test_the_page_listens_to_the_events_that_are_sent():
    from loaded_pack import submodule

    live = submodule("nodes.comfy.live")
    chart = (WEB / "live_chart.js").read_text(encoding="utf-8")
    for event in (live.STEP_EVENT, live.PHASE_EVENT):
        assert f'listen("{event}"' in chart


def test_one_module_alone_knows_comfyuis_page():
    users = [s.name for s in SOURCES if "/scripts/" in s.read_text(encoding="utf-8")]
    assert users == ["comfy_page.mjs"]
