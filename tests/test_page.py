"""The pack in ComfyUI's real page: templates, the live chart, a reload, and the page's own interrupt.

The variable GDPO_COMFYUI holds the address of a running ComfyUI with this pack; tests/page/pictures.py names
what else is needed.
"""

from __future__ import annotations

import importlib.util
import time

import pytest
from page import pictures

NO_PAGE = "GDPO_COMFYUI holds no address of a running ComfyUI"
NO_BROWSER = "playwright is not installed"
pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.skipif(not pictures.SERVER, reason=NO_PAGE),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason=NO_BROWSER),
]
TEMPLATES = sorted((pictures.ROOT / "example_workflows").glob("*.json"))
SMALL = {
    "run_name": "page-test",
    "prompts_per_step": 2,
    "group_size": 2,
    "max_new_tokens": 16,
    "existing_run": "fresh",
}
# Only the training and what it needs; few held-out prompts, so that its evaluations are short.
ONLY_TRAIN = """() => { for (const node of [...app.graph._nodes]) {
  if (["GDPOExportGGUF", "GDPOChat", "GDPOCompare"].includes(node.type)) app.graph.remove(node);
  const limit = node.widgets?.find((widget) => widget.name === "limit"); if (limit) limit.value = 8 } }"""
MISSING = (
    "() => app.graph._nodes.map((n) => n.type).filter((t) => !LiteGraph.registered_node_types[t])"
)
QUEUED = "async () => (await app.graphToPrompt()).output"
CHARTS = f"""() => [...document.querySelectorAll('{pictures.CHART}')].map((chart) =>
  [chart.parentElement.innerText, chart.querySelectorAll("path").length])"""


@pytest.fixture(params=[False, True], ids=["canvas", "dom"])
def page(request):
    with pictures.open_page(dom=request.param) as opened:
        yield opened


def start_training(page, steps: int) -> None:
    pictures.load(page, pictures.QUICK_START)
    page.evaluate(ONLY_TRAIN)
    pictures.set_train(page, steps=steps, **SMALL)
    pictures.show_graph(page, *pictures.ASIDE)
    page.locator(pictures.QUEUE).first.click()


def wait_for_step(page, step: int) -> None:
    page.wait_for_function(pictures.PROGRESS, arg=step, timeout=120_000)


def test_every_template_opens_whole_and_without_page_errors(page):
    for path in TEMPLATES:
        saved = pictures.load(page, path)
        ours = {str(node["id"]): node["type"] for node in saved["nodes"] if node["type"] != "Note"}
        queued = page.evaluate(QUEUED)
        assert page.evaluate(MISSING) == [], path.name
        assert {key: node["class_type"] for key, node in queued.items()} == ours, path.name
    assert page.troubles == []


def test_the_chart_follows_a_training_and_is_whole_again_after_a_reload(page):
    start_training(page, steps=2)
    wait_for_step(page, 1)
    assert pictures.wait_end(page, 120) == "execution_success"
    page.wait_for_timeout(1000)
    drawn = page.evaluate(CHARTS)
    assert len(drawn) == 2, "GDPO Train and Plot Convergence"
    assert all("page-test" in text and "finished, 2 steps" in text for text, _ in drawn)
    page.wait_for_timeout(2000)  # the page saves its workflow for the reload
    page.reload()
    pictures.settle(page)
    pictures.show_graph(page, *pictures.ASIDE)
    assert page.evaluate(CHARTS) == drawn
    assert page.troubles == []


def test_the_pages_interrupt_button_ends_a_training_within_five_seconds(page):
    start_training(page, steps=1000)
    wait_for_step(page, 1)
    button = page.get_by_role("button", name=pictures.INTERRUPT).first
    began = time.monotonic()
    button.click()
    assert pictures.wait_end(page, 30) == "execution_interrupted"
    assert time.monotonic() - began < 5
    page.wait_for_timeout(500)
    assert any("stopped" in text for text, _ in page.evaluate(CHARTS))
